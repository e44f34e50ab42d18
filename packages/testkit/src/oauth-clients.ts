import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import type { ClientMetadata } from 'oidc-provider';

/** A client that proves itself with a secret. */
export interface SecretClient {
  readonly clientId: string;
  readonly clientSecret: string;
}

/** A client that proves itself with a key: ES256, its `kid` as registered. */
export interface KeyClient {
  readonly clientId: string;
  readonly privateKey: KeyObject;
  readonly keyId: string;
}

/** A client with a browser in front of it. */
export interface WebClient extends SecretClient {
  readonly redirectUri: string;
}

/** The clients every local authorization server knows. Their secrets and keys are new each time. */
export interface TestClients {
  /** `client_secret_basic`; id and secret contain what breaks without the form-encoding of RFC 6749 §2.3.1. */
  readonly basic: SecretClient;
  /** `client_secret_post`. */
  readonly post: SecretClient;
  /** `private_key_jwt`, client credentials and token exchange. */
  readonly service: KeyClient;
  /** `client_secret_basic`, authorization code with PKCE, refresh tokens. */
  readonly web: WebClient;
  /** `private_key_jwt`, refresh tokens. */
  readonly webKey: KeyClient;
  /** `client_secret_basic`, for resource servers that introspect. */
  readonly resourceServer: SecretClient;
}

export const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';

export function testClients(): TestClients {
  const secret = () => randomBytes(24).toString('base64url');
  return {
    basic: { clientId: 'basic:client+1', clientSecret: `a b+c:d%e&f=g/${secret()}` },
    post: { clientId: 'post', clientSecret: secret() },
    service: {
      clientId: 'service',
      privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
      keyId: 'service-key-1',
    },
    web: {
      clientId: 'web',
      clientSecret: secret(),
      redirectUri: 'https://app.example.com/callback',
    },
    webKey: {
      clientId: 'web-key',
      privateKey: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
      keyId: 'web-key-1',
    },
    resourceServer: { clientId: 'resource-server', clientSecret: secret() },
  };
}

export function clientMetadata(clients: TestClients): ClientMetadata[] {
  const machine = { redirect_uris: [], response_types: [] };
  return [
    {
      ...machine,
      ...credentials(clients.basic),
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'client_secret_basic',
    },
    {
      ...machine,
      ...credentials(clients.post),
      grant_types: ['client_credentials'],
      token_endpoint_auth_method: 'client_secret_post',
    },
    {
      ...machine,
      ...keyClientMetadata(clients.service),
      grant_types: ['client_credentials', TOKEN_EXCHANGE],
    },
    {
      ...credentials(clients.web),
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: [clients.web.redirectUri],
      token_endpoint_auth_method: 'client_secret_basic',
    },
    {
      ...keyClientMetadata(clients.webKey),
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      redirect_uris: [clients.web.redirectUri],
    },
    {
      ...machine,
      ...credentials(clients.resourceServer),
      grant_types: [],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ];
}

/** What a `private_key_jwt` client registers: its public key, never the private one. */
export function keyClientMetadata(client: KeyClient): ClientMetadata {
  const { d: _private, ...publicJwk } = client.privateKey.export({ format: 'jwk' });
  return {
    client_id: client.clientId,
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [{ ...publicJwk, kty: 'EC', kid: client.keyId, alg: 'ES256', use: 'sig' }] },
  };
}

function credentials(client: SecretClient): { client_id: string; client_secret: string } {
  return { client_id: client.clientId, client_secret: client.clientSecret };
}
