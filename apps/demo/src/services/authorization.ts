import { startOAuthServer } from '@countersign/testkit/oauth-server';
import { serve } from '../process.ts';

/** What the authorization server is told. */
export interface AuthorizationConfiguration {
  /** The resource servers it issues tokens for (RFC 8707). */
  readonly resources: readonly string[];
}

/** A registered client with its private key, as `checkout` needs it. */
export interface RegisteredClient {
  readonly clientId: string;
  readonly keyId: string;
  readonly privateKeyPem: string;
}

serve<AuthorizationConfiguration>(async ({ resources }) => {
  const server = await startOAuthServer({
    resources: Object.fromEntries(
      resources.map((resource) => [resource, { scope: 'payments:read payments:write' }]),
    ),
  });
  const { clientId, keyId, privateKey } = server.clients.service;
  const client: RegisteredClient = {
    clientId,
    keyId,
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
  return {
    url: server.issuer,
    questions: {
      client: () => client,
      'token requests': () => server.count('token'),
      token: ({ resource, scope }: { resource: string; scope: string }) =>
        server.mintAccessToken({ resource, scope }),
    },
    close: () => server.stop(),
  };
});
