import { type KeyObject, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { JSONWebKeySet, JWK } from 'jose';
import { Provider } from 'oidc-provider';
import { type KeyClient, type TestClients, testClients } from './oauth-clients.ts';
import { registerTokenExchange } from './oauth-exchange.ts';
import {
  clientAssertion,
  dpopProof,
  newSigningKey,
  publicPart,
  type SigningKey,
} from './oauth-keys.ts';
import {
  ACCESS_TOKEN_SECONDS,
  DEFAULT_SCOPE,
  type OAuthServerOptions,
  providerConfiguration,
} from './oauth-provider.ts';
import { oauthStorage } from './oauth-storage.ts';

export type { KeyClient, SecretClient, TestClients, WebClient } from './oauth-clients.ts';
export { keyClientMetadata, TOKEN_EXCHANGE } from './oauth-clients.ts';
export { dpopProof, type SigningKey } from './oauth-keys.ts';
export type { OAuthServerOptions, ResourceOptions } from './oauth-provider.ts';

export type OAuthEndpoint =
  | 'discovery'
  | 'jwks'
  | 'token'
  | 'introspection'
  | 'revocation'
  | 'authorization'
  | 'other';

/** One request as the server saw it; `params` and `status` fill in as it is served. */
export interface SeenRequest {
  readonly endpoint: OAuthEndpoint;
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  /** The form's fields, where there was a form. */
  readonly params: Readonly<Record<string, unknown>>;
  readonly status: number;
}

/**
 * What happens to a request instead of, or after, its being served: an answer, or a connection torn down before it is
 * served (`lose-request`) or after (`lose-response`: the server has done the work, the caller does not know).
 */
export type Interception =
  | 'lose-request'
  | 'lose-response'
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    };

export interface MintOptions {
  /** A `private_key_jwt` client; default the one named `service`. */
  readonly client?: KeyClient;
  /** Default: {@link OAuthServerOptions.defaultResource}, else `https://api.example.com`. */
  readonly resource?: string;
  readonly scope?: string;
  /** Bind the token to this ES256 private key. */
  readonly dpop?: KeyObject;
}

export interface RefreshTokenOptions {
  /** Default `alice`. */
  readonly subject?: string;
  readonly scope?: string;
  readonly resource?: string;
  /** Default the client named `web`. */
  readonly clientId?: string;
}

export interface OAuthServer {
  readonly issuer: string;
  readonly port: number;
  readonly clients: TestClients;
  /** The published keys, as they are now. */
  readonly jwks: JSONWebKeySet;
  /** The key that signs now: for tests that forge. */
  readonly signingKey: SigningKey;
  /** The requests since the start or the last {@link OAuthServer.forget}, in order of arrival; at most the last 10,000. */
  readonly requests: readonly SeenRequest[];
  count(endpoint: OAuthEndpoint): number;
  forget(): void;
  /** Applies to the next `times` requests of an endpoint; default once. */
  intercept(endpoint: OAuthEndpoint, interception: Interception, times?: number): void;
  /** Asks the token endpoint with client_credentials and private_key_jwt, like any client would. */
  mintAccessToken(options?: MintOptions): Promise<string>;
  /** A refresh token as an authorization code exchange would have given it, without the browser. */
  mintRefreshToken(options?: RefreshTokenOptions): Promise<string>;
  /** Walks an authorization request like a browser whose user (`login_hint`, else `alice`) agrees; returns where it ended. */
  authorize(url: string | URL): Promise<URL>;
  /** A new signing key. `keepOld` (default true) still publishes the keys before it. */
  rotateKeys(options?: { keepOld?: boolean }): Promise<SigningKey>;
  stop(): Promise<void>;
}

const MAX_REQUESTS = 10_000;

/** What of an authorization request matters here, as the provider has checked it. */
interface AuthorizationParams {
  readonly client_id: string;
  readonly login_hint?: string;
  readonly scope?: string;
  readonly resource?: string | readonly string[];
}
const DEFAULT_RESOURCE = 'https://api.example.com';

/** A real authorization server (oidc-provider) on loopback. */
export async function startOAuthServer(options: OAuthServerOptions = {}): Promise<OAuthServer> {
  const accessTokenSeconds = options.accessTokenSeconds ?? ACCESS_TOKEN_SECONDS;
  if (accessTokenSeconds > 900) throw new TypeError('accessTokenSeconds must be at most 900');
  const clients = testClients();
  const storage = oauthStorage();
  const secret = randomBytes(32);
  let keys: (SigningKey & { jwk: JWK })[] = [await newSigningKey()];
  const current = () => keys[0] as SigningKey;
  const publicKeys = (): JSONWebKeySet => ({ keys: keys.map(({ jwk }) => publicPart(jwk)) });

  const requests: SeenRequest[] = [];
  let counts: Partial<Record<OAuthEndpoint, number>> = {};
  const forms = new WeakMap<IncomingMessage, Record<string, unknown>>();
  const interceptions: { endpoint: OAuthEndpoint; interception: Interception; left: number }[] = [];

  const server = options.tls
    ? createTlsServer({ ...options.tls, requestCert: true, rejectUnauthorized: false })
    : createServer();
  server.listen(options.port ?? 0, options.host ?? '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const issuer = options.tls
    ? `https://${options.tls.host ?? 'localhost'}:${port}`
    : `http://${options.host ?? '127.0.0.1'}:${port}`;

  const build = () => {
    const parts = { issuer, clients, storage, secret, keys };
    const provider = new Provider(issuer, providerConfiguration(options, parts));
    registerTokenExchange(provider, { jwks: publicKeys, current }, accessTokenSeconds);
    provider.use(async (ctx, next) => {
      await next();
      forms.set(ctx.req, { ...ctx['oidc']?.body });
    });
    const serve = provider.callback();
    return { provider, serve: (req: IncomingMessage, res: ServerResponse) => void serve(req, res) };
  };
  let { provider, serve } = build();

  const agree = async (req: IncomingMessage, res: ServerResponse) => {
    const details = await provider.interactionDetails(req, res);
    const params = details.params as unknown as AuthorizationParams;
    const { login_hint: accountId = 'alice', client_id: clientId, scope = '' } = params;
    const grant = new provider.Grant({ accountId, clientId });
    grant.addOIDCScope(scope);
    for (const uri of [params.resource ?? options.defaultResource ?? []].flat()) {
      grant.addResourceScope(uri, scope);
    }
    const grantId = await grant.save();
    await provider.interactionFinished(req, res, { login: { accountId }, consent: { grantId } });
  };

  const take = (endpoint: OAuthEndpoint) => {
    const found = interceptions.find((entry) => entry.endpoint === endpoint && entry.left > 0);
    if (found) found.left -= 1;
    return found?.interception;
  };

  server.on('request', (req: IncomingMessage, res: ServerResponse) => {
    const path = new URL(req.url ?? '/', issuer).pathname;
    const endpoint = endpointOf(path);
    let lost = false;
    const lose = () => {
      lost = true;
      req.socket.destroy();
      return res;
    };
    counts[endpoint] = (counts[endpoint] ?? 0) + 1;
    if (requests.length === MAX_REQUESTS) requests.shift();
    requests.push({
      endpoint,
      method: req.method ?? '',
      path,
      headers: req.headers,
      get params() {
        return forms.get(req) ?? {};
      },
      get status() {
        return lost ? 0 : res.statusCode;
      },
    });
    const interception = take(endpoint);
    if (interception === 'lose-request') {
      lose();
    } else if (interception === 'lose-response') {
      // The provider ends the response once its work is done: the moment to lose it.
      res.end = lose;
      serve(req, res);
    } else if (interception) {
      req.resume();
      res.writeHead(interception.status, interception.headers).end(interception.body);
    } else if (path.startsWith('/interaction/')) {
      agree(req, res).catch((error: unknown) => res.writeHead(500).end(String(error)));
    } else serve(req, res);
  });

  const ask = async (form: Record<string, string>, mint: MintOptions, nonce?: string) => {
    const client = mint.client ?? clients.service;
    const url = `${issuer}/token`;
    const headers = mint.dpop ? { dpop: await dpopProof(mint.dpop, url, nonce) } : {};
    const body = new URLSearchParams({ ...form, ...(await clientAssertion(client, issuer)) });
    return fetch(url, { method: 'POST', body, headers });
  };

  return {
    issuer,
    port,
    clients,
    requests,
    get jwks() {
      return publicKeys();
    },
    get signingKey() {
      return current();
    },
    count: (endpoint) => counts[endpoint] ?? 0,
    forget: () => {
      requests.length = 0;
      counts = {};
    },
    intercept: (endpoint, interception, times = 1) => {
      interceptions.push({ endpoint, interception, left: times });
    },
    mintAccessToken: async (mint = {}) => {
      const form = {
        grant_type: 'client_credentials',
        resource: mint.resource ?? options.defaultResource ?? DEFAULT_RESOURCE,
        scope: mint.scope ?? options.scope ?? DEFAULT_SCOPE,
      };
      let response = await ask(form, mint);
      const nonce = response.headers.get('dpop-nonce');
      if (response.status === 400 && nonce) response = await ask(form, mint, nonce);
      if (!response.ok) throw new Error(`the token endpoint refused: ${await response.text()}`);
      return ((await response.json()) as { access_token: string }).access_token;
    },
    mintRefreshToken: async (mint = {}) => {
      const clientId = mint.clientId ?? clients.web.clientId;
      const client = await provider.Client.find(clientId);
      if (!client) throw new TypeError(`no client ${clientId}`);
      const accountId = mint.subject ?? 'alice';
      const scope = mint.scope ?? options.scope ?? DEFAULT_SCOPE;
      const uri = mint.resource ?? options.defaultResource ?? DEFAULT_RESOURCE;
      const grant = new provider.Grant({ accountId, clientId });
      grant.addResourceScope(uri, scope);
      const grantId = await grant.save();
      const gty = 'authorization_code';
      const properties = { client, accountId, grantId, gty, scope, resource: uri };
      return new provider.RefreshToken(properties).save();
    },
    authorize: (url) => browse(new URL(url), issuer),
    rotateKeys: async ({ keepOld = true } = {}) => {
      const next = await newSigningKey();
      keys = keepOld ? [next, ...keys] : [next];
      ({ provider, serve } = build());
      return next;
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function endpointOf(path: string): OAuthEndpoint {
  if (path.startsWith('/.well-known/')) return 'discovery';
  if (path === '/jwks') return 'jwks';
  if (path === '/token') return 'token';
  if (path === '/token/introspection') return 'introspection';
  if (path === '/token/revocation') return 'revocation';
  if (path.startsWith('/auth')) return 'authorization';
  return 'other';
}

/** Follows redirects with cookies until they leave the authorization server. */
async function browse(start: URL, issuer: string): Promise<URL> {
  const cookies = new Map<string, string>();
  let url = start;
  for (let hop = 0; hop < 10; hop += 1) {
    if (url.origin !== new URL(issuer).origin) return url;
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', headers: { cookie } });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (name) cookies.set(name, value ?? '');
    }
    const location = response.headers.get('location');
    if (!location) throw new Error(`the browser stopped at ${url.pathname}: ${response.status}`);
    await response.body?.cancel();
    url = new URL(location, url);
  }
  throw new Error('too many redirects');
}
