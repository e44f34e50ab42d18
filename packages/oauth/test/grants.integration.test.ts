import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { testCertificate } from '@countersign/testkit/certificate';
import { fakeClock } from '@countersign/testkit/clock';
import {
  type OAuthServer,
  type OAuthServerOptions,
  startOAuthServer,
} from '@countersign/testkit/oauth-server';
import { respondJson, startScriptedServer } from '@countersign/testkit/scripted-server';
import { calculateJwkThumbprint, decodeJwt, type JWK } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import {
  authorizationCode,
  authorizationUrl,
  type ConfiguredClient,
  clientCredentials,
  clientSecretBasic,
  type IntrospectorOptions,
  introspector,
  memoryTokenStore,
  mutualTls,
  pkce,
  privateKeyJwt,
  refreshToken,
  revokeToken,
  tokenExchange,
  workloadIdentity,
} from '../src/index.ts';

let server: OAuthServer;
const start = async (options?: OAuthServerOptions) => {
  server = await startOAuthServer(options);
};
afterEach(() => server.stop());

const secretClient = (name: 'web' | 'basic' | 'resourceServer'): ConfiguredClient => ({
  issuer: server.issuer,
  allowInsecureLoopback: true,
  clientId: server.clients[name].clientId,
  clientAuth: clientSecretBasic(server.clients[name].clientSecret),
});
const keyClient = (): ConfiguredClient => {
  const { clientId, privateKey, keyId } = server.clients.service;
  const clientAuth = privateKeyJwt(privateKey, { keyId });
  return { issuer: server.issuer, allowInsecureLoopback: true, clientId, clientAuth };
};

describe('token exchange', () => {
  it('acts for the subject, names the actor and is asked for once', async () => {
    await start({ defaultResource: 'https://front.example.com' });
    const front = clientCredentials({ ...keyClient(), scope: 'orders:read orders:write' });
    const source = tokenExchange({
      ...keyClient(),
      subjectToken: front,
      actorToken: (await front.getToken()).value,
      resource: 'https://back.example.com',
      scope: 'orders:read',
    });
    const [token] = await Promise.all([source.getToken(), source.getToken()]);
    expect(decodeJwt(token.value)).toMatchObject({
      sub: 'service',
      act: { sub: 'service' },
      aud: 'https://back.example.com',
      scope: 'orders:read',
    });
    expect(server.count('token')).toBe(2);
  });

  it('keeps the tokens of different subjects apart in a store they share', async () => {
    await start();
    const store = memoryTokenStore();
    const subjects = await Promise.all([
      server.mintAccessToken({ scope: 'orders:read' }),
      server.mintAccessToken({ scope: 'orders:write' }),
    ]);
    const tokens = await Promise.all(
      [...subjects, ...subjects].map((subjectToken) =>
        tokenExchange({ ...keyClient(), store, subjectToken, resource: 'urn:back' }).getToken(),
      ),
    );
    expect(tokens.map(({ scope }) => scope)).toEqual([
      'orders:read',
      'orders:write',
      'orders:read',
      'orders:write',
    ]);
    expect(server.count('token')).toBe(4);
  });

  it('binds the token to a key, with the server’s nonce and a fresh proof and assertion each time', async () => {
    await start({ dpopNonceRequired: true, defaultResource: 'https://front.example.com' });
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jkt = await calculateJwkThumbprint(publicKey.export({ format: 'jwk' }) as JWK);
    const options = { ...keyClient(), dpop: { key: privateKey }, scope: 'orders:read' };
    const front = clientCredentials(options);
    const store = memoryTokenStore();
    const exchange = (key = privateKey) =>
      tokenExchange({
        ...options,
        dpop: { key },
        store,
        subjectToken: front,
        actorToken: front,
        resource: 'https://back.example.com',
      });
    const source = exchange();
    const first = await source.getToken();
    const second = await source.getToken({ forceRenewal: true });
    expect(second.value).not.toBe(first.value);
    for (const token of [first, second]) {
      expect(token.type).toBe('DPoP');
      expect(decodeJwt(token.value)).toMatchObject({ cnf: { jkt }, act: { sub: 'service' } });
      const url = 'https://back.example.com/orders?page=1';
      const proof = decodeJwt(String(await token.proof({ method: 'GET', url })));
      expect(proof['ath']).toBe(createHash('sha256').update(token.value).digest('base64url'));
    }
    // Whoever has the key shares the token, and nobody else.
    expect((await exchange().getToken()).value).toBe(second.value);
    const another = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const other = await exchange(another).getToken();
    expect(decodeJwt(other.value)['cnf']).not.toEqual({ jkt });

    const asked = server.requests.filter(({ endpoint }) => endpoint === 'token');
    const exchanges = asked.filter(({ params }) => 'subject_token' in params);
    expect(exchanges.map(({ status }) => status)).toEqual([400, 200, 200, 400, 200]);
    // The server itself takes no proof twice; assertions it must not see twice either.
    const proofs = asked.map(({ headers }) => decodeJwt(String(headers['dpop'])));
    expect(new Set(proofs.map(({ jti }) => jti)).size).toBe(asked.length);
    expect(new Set(asked.map(({ params }) => params['client_assertion'])).size).toBe(asked.length);
  });

  it('refuses what is no access token, coming or going', async () => {
    await start();
    const build = (subjectToken: never) => () => tokenExchange({ ...keyClient(), subjectToken });
    for (const wrong of ['', {}, { value: 'x' }, undefined]) {
      expect(build(wrong as never)).toThrow(/subjectToken/);
    }
    const api = await startScriptedServer();
    const issued = (type?: string) =>
      api.enqueue(
        respondJson({
          access_token: 'x',
          token_type: 'Bearer',
          ...(type ? { issued_token_type: type } : {}),
        }),
      );
    const metadata = { issuer: api.origin, token_endpoint: `${api.origin}/token` };
    const exchange = () => {
      const { issuer: _, ...rest } = keyClient();
      return tokenExchange({ ...rest, server: metadata, subjectToken: 'x' }).getToken();
    };
    issued('urn:ietf:params:oauth:token-type:saml2');
    await expect(exchange()).rejects.toMatchObject({ code: 'ERR_OAUTH_RESPONSE' });
    issued();
    await expect(exchange()).rejects.toMatchObject({ code: 'ERR_OAUTH_RESPONSE' });
    issued('urn:ietf:params:oauth:token-type:access_token');
    expect((await exchange()).value).toBe('x');
    await api.stop();
  });
});

describe('authorization code', () => {
  const redirectUri = () => server.clients.web.redirectUri;

  it('goes from the browser to tokens that renew themselves, with PKCE S256 and state', async () => {
    await start();
    const client = secretClient('web');
    const { url, pending } = await authorizationUrl(client, {
      redirectUri: redirectUri(),
      scope: 'orders:read',
      resource: 'https://api.example.com',
      parameters: { login_hint: 'bob' },
    });
    expect(new URL(url).searchParams.get('code_challenge_method')).toBe('S256');
    expect(url).not.toContain(pending.codeVerifier);
    const callback = await server.authorize(url);
    const result = await authorizationCode(client, callback, pending);
    expect(decodeJwt(result.accessToken.value)).toMatchObject({
      sub: 'bob',
      aud: 'https://api.example.com',
      scope: 'orders:read',
    });
    const shown = inspect(result, { depth: 9, showHidden: true }) + JSON.stringify(result);
    expect(shown).not.toContain(result.refreshToken);
    const source = refreshToken({
      ...client,
      initial: String(result.refreshToken),
      store: memoryTokenStore(),
    });
    expect(decodeJwt((await source.getToken()).value).sub).toBe('bob');
    // A code works once.
    await expect(authorizationCode(client, callback, pending)).rejects.toMatchObject({
      error: 'invalid_grant',
    });
  });

  it('with openid checks the ID token and its nonce', async () => {
    await start();
    const client = secretClient('web');
    const { url, pending } = await authorizationUrl(client, {
      redirectUri: redirectUri(),
      scope: 'openid',
    });
    const callback = await server.authorize(url);
    const forged = { ...pending, nonce: 'another' };
    await expect(authorizationCode(client, callback, forged)).rejects.toMatchObject({
      code: 'ERR_OAUTH_RESPONSE',
    });
    const again = await authorizationUrl(client, { redirectUri: redirectUri(), scope: 'openid' });
    const { claims } = await authorizationCode(
      client,
      await server.authorize(again.url),
      again.pending,
    );
    expect(claims).toMatchObject({ sub: 'alice', nonce: again.pending.nonce, iss: server.issuer });
  });

  it('with openid does not do without an ID token', async () => {
    await start();
    const client = secretClient('web');
    const request = { redirectUri: redirectUri(), scope: 'openid' };
    const { url, pending } = await authorizationUrl(client, request);
    const callback = await server.authorize(url);
    server.intercept('token', {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ access_token: 'a', token_type: 'Bearer' }),
    });
    await expect(authorizationCode(client, callback, pending)).rejects.toMatchObject({
      code: 'ERR_OAUTH_RESPONSE',
    });
  });

  it.each([
    [0, 'now'],
    [365, 'not after its end'],
  ])('with openid judges the ID token by the clock it was given: %i days off, %s', async (days) => {
    await start();
    const now = () => Date.now() + days * 86_400_000;
    const client = { ...secretClient('web'), now };
    const request = { redirectUri: redirectUri(), scope: 'openid' };
    const { url, pending } = await authorizationUrl(client, request);
    const outcome = authorizationCode(client, await server.authorize(url), pending);
    if (days === 0) expect((await outcome).claims).toMatchObject({ sub: 'alice' });
    else await expect(outcome).rejects.toMatchObject({ code: 'ERR_OAUTH_RESPONSE' });
  });

  it('repeats the redirect URI to the letter', async () => {
    const api = await startScriptedServer();
    api.enqueue(respondJson({ access_token: 'a', token_type: 'Bearer' }));
    const { issuer: _, ...rest } = secretClient('web');
    const client = { ...rest, server: { issuer: api.origin, token_endpoint: `${api.origin}/t` } };
    const redirectUri = 'https://APP.example.com?tenant=%41';
    const pending = { redirectUri, state: 'state', codeVerifier: pkce().codeVerifier };
    await authorizationCode(client, 'https://app.example.com/?code=c&state=state', pending);
    const sent = new URLSearchParams(String(api.requests[0]?.body));
    expect(Object.fromEntries(sent)).toMatchObject({
      grant_type: 'authorization_code',
      code: 'c',
      redirect_uri: redirectUri,
      code_verifier: pending.codeVerifier,
    });
    await api.stop();
  });

  it('bound to a DPoP key stays bound', async () => {
    await start();
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const client = { ...secretClient('web'), dpop: { key: privateKey } };
    const { url, pending } = await authorizationUrl(client, {
      redirectUri: redirectUri(),
      scope: 'orders:read',
      resource: 'https://api.example.com',
    });
    expect(new URL(url).searchParams.get('dpop_jkt')).toBeTruthy();
    const result = await authorizationCode(client, await server.authorize(url), pending);
    expect(result.accessToken.type).toBe('DPoP');
  });

  it('and the grants after it prove a key with the server’s nonce, each attempt anew', async () => {
    await start({ dpopNonceRequired: true });
    const dpop = { key: generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey };
    const resource = 'https://api.example.com';
    const client = { ...secretClient('web'), dpop };
    const request = { redirectUri: redirectUri(), scope: 'orders:read', resource };
    const { url, pending } = await authorizationUrl(client, request);
    const result = await authorizationCode(client, await server.authorize(url), pending);
    const grant = { initial: String(result.refreshToken), store: memoryTokenStore(), resource };
    const service = { ...keyClient(), dpop, resource };
    const tokens = [
      result.accessToken,
      await refreshToken({ ...client, ...grant }).getToken(),
      await clientCredentials(service).getToken(),
    ];
    for (const { type, value } of tokens) {
      expect(type).toBe('DPoP');
      expect(decodeJwt(value)['cnf']).toHaveProperty('jkt');
    }
    const asked = server.requests.filter(({ endpoint }) => endpoint === 'token');
    const proofs = asked.map(({ headers }) => decodeJwt(String(headers['dpop'])));
    expect(new Set(proofs.map(({ jti }) => jti)).size).toBe(asked.length);
    const assertions = asked.flatMap(({ params }) => params['client_assertion'] ?? []);
    expect(new Set(assertions).size).toBe(assertions.length);
    // Each client learns the nonce once, from a refusal, and has the next from a success.
    expect(asked.map(({ status }) => status)).toContain(400);
    expect(asked.filter(({ status }) => status === 200)).toHaveLength(3);
  });

  it('believes no callback that is not its own', async () => {
    await start();
    const client = secretClient('web');
    const { url, pending } = await authorizationUrl(client, {
      redirectUri: redirectUri(),
      scope: 'orders:read',
      resource: 'https://api.example.com',
    });
    const callback = await server.authorize(url);
    expect(callback.searchParams.get('code')).toBeTruthy();
    const altered = (change: (query: URLSearchParams) => void) => {
      const other = new URL(callback);
      change(other.searchParams);
      return authorizationCode(client, other, pending);
    };
    const refused = { code: 'ERR_OAUTH_CALLBACK' };
    await expect(altered((query) => query.set('state', 'forged'))).rejects.toMatchObject(refused);
    await expect(altered((query) => query.delete('state'))).rejects.toMatchObject(refused);
    await expect(
      altered((query) => query.set('iss', 'https://evil.example')),
    ).rejects.toMatchObject(refused);
    await expect(altered((query) => query.delete('iss'))).rejects.toMatchObject(refused);
    await expect(altered((query) => query.append('code', 'two'))).rejects.toMatchObject(refused);
    const denied = new URLSearchParams({
      error: 'access_denied',
      state: pending.state,
      iss: server.issuer,
    });
    await expect(authorizationCode(client, denied, pending)).rejects.toMatchObject({
      ...refused,
      error: 'access_denied',
    });
    expect(server.count('token')).toBe(0);
    // Another's verifier is of no use.
    const stolen = { ...pending, codeVerifier: pkce().codeVerifier };
    await expect(authorizationCode(client, callback, stolen)).rejects.toMatchObject({
      error: 'invalid_grant',
    });
  });

  it.each(['redirectUri', 'state', 'codeVerifier', 'nonce', 'scope'])(
    'exchanges no code when the session lost %s',
    async (lost) => {
      await start();
      const client = secretClient('web');
      const { url, pending } = await authorizationUrl(client, {
        redirectUri: redirectUri(),
        scope: 'openid orders:read',
      });
      const callback = await server.authorize(url);
      const rest = Object.fromEntries(Object.entries(pending).filter(([name]) => name !== lost));
      await expect(
        authorizationCode(client, callback, rest as unknown as typeof pending),
      ).rejects.toMatchObject({ code: 'ERR_OAUTH_CALLBACK' });
      expect(server.count('token')).toBe(0);
    },
  );

  it('exchanges no code when the session lost everything', async () => {
    await start();
    const nothing = undefined as never;
    await expect(
      authorizationCode(secretClient('web'), 'https://app.example.com/?code=c&state=s', nothing),
    ).rejects.toMatchObject({ code: 'ERR_OAUTH_CALLBACK' });
  });

  it('refuses what would weaken it', async () => {
    await start();
    const client = secretClient('web');
    const begin = (redirect: string, parameters = {}) =>
      authorizationUrl(client, { redirectUri: redirect, parameters });
    await expect(begin('http://app.example.com/cb')).rejects.toThrow(/redirectUri/);
    await expect(begin('nonsense')).rejects.toThrow(/redirectUri/);
    for (const name of ['state', 'code_challenge', 'code_challenge_method', 'response_type']) {
      await expect(begin(redirectUri(), { [name]: 'plain' })).rejects.toThrow(name);
    }
    const { issuer, ...rest } = client;
    const metadata = {
      issuer: String(issuer),
      authorization_endpoint: `${issuer}/auth`,
      code_challenge_methods_supported: ['plain'],
    };
    await expect(
      authorizationUrl({ ...rest, server: metadata }, { redirectUri: redirectUri() }),
    ).rejects.toMatchObject({ code: 'ERR_OAUTH_METADATA' });
  });

  it('makes proof keys as RFC 7636 has them', () => {
    const { codeVerifier, codeChallenge } = pkce();
    expect(codeVerifier).toMatch(/^[\w-]{43}$/);
    expect(codeChallenge).toMatch(/^[\w-]{43}$/);
    expect(pkce().codeVerifier).not.toBe(codeVerifier);
    server = { stop: async () => {} } as OAuthServer;
  });
});

describe('revocation', () => {
  it('ends a refresh token, and an unknown one is already ended', async () => {
    await start();
    const client = secretClient('web');
    const initial = await server.mintRefreshToken();
    await revokeToken(client, initial, { tokenTypeHint: 'refresh_token' });
    await revokeToken(client, 'never-issued');
    expect(server.requests.map(({ params }) => params['token_type_hint'])).toContain(
      'refresh_token',
    );
    const source = refreshToken({ ...client, initial, store: memoryTokenStore() });
    await expect(source.getToken()).rejects.toMatchObject({ error: 'invalid_grant' });
    expect(server.count('discovery')).toBe(2);
  });

  it('that cannot be done now leaves the token valid, and says so', async () => {
    await start();
    server.intercept('revocation', { status: 503, headers: { 'retry-after': '30' } });
    await expect(revokeToken(secretClient('web'), 'token')).rejects.toMatchObject({
      code: 'ERR_OAUTH_UNAVAILABLE',
      status: 503,
      retryAfterMs: 30_000,
    });
    await expect(revokeToken(secretClient('web'), '')).rejects.toThrow(TypeError);
  });
});

describe('introspection', () => {
  const RESOURCE = 'urn:orders';
  const clock = fakeClock(Date.now());
  const opaque: OAuthServerOptions = {
    resources: {
      [RESOURCE]: { format: 'opaque' },
      'urn:other': { format: 'opaque' },
    },
  };
  const build = (options: Partial<IntrospectorOptions> = {}) =>
    introspector({
      ...secretClient('resourceServer'),
      audience: RESOURCE,
      now: clock.now,
      ...options,
    });
  const mint = async (resource = RESOURCE, scope = 'orders:read') => {
    const client = secretClient('basic');
    return (await clientCredentials({ ...client, resource, scope }).getToken()).value;
  };

  it('tells whose token it is, and asks once for many', async () => {
    await start(opaque);
    const token = await mint();
    const { introspect } = build({ scope: 'orders:read' });
    const all = await Promise.all(Array.from({ length: 100 }, () => introspect(token)));
    expect(all[99]).toMatchObject({
      active: true,
      clientId: server.clients.basic.clientId,
      scopes: ['orders:read'],
      expiresAtMs: expect.any(Number),
    });
    expect(server.count('introspection')).toBe(1);
    clock.advance(10_001);
    await introspect(token);
    expect(server.count('introspection')).toBe(2);
  });

  it('asks again when the clock was set back, rather than remember for longer', async () => {
    await start(opaque);
    const token = await mint();
    const { introspect } = build();
    await introspect(token);
    clock.advance(-3_600_000);
    await introspect(token);
    expect(server.count('introspection')).toBe(2);
    clock.advance(3_600_000);
  });

  it('takes no answer whose times are no times', async () => {
    await start(opaque);
    for (const times of [{ exp: '1' }, { exp: null }, { nbf: 'soon' }]) {
      server.intercept('introspection', {
        status: 200,
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ active: true, aud: RESOURCE, ...times }),
      });
      await expect(build().introspect('token')).rejects.toMatchObject({
        code: 'ERR_OAUTH_RESPONSE',
      });
    }
  });

  it('remembers what the server said, not what a caller made of it', async () => {
    await start(opaque);
    const token = await mint();
    const { introspect } = build({ scope: 'orders:read' });
    const first = await introspect(token);
    const claims = 'claims' in first ? (first.claims as Record<string, unknown>) : {};
    claims['sub'] = 'admin';
    claims['scope'] = 'admin';
    expect(await introspect(token)).toMatchObject({ scopes: ['orders:read'] });
  });

  it('refuses bounds that bound nothing', async () => {
    await start(opaque);
    for (const maxEntries of [Number.NaN, 0, 1.5]) {
      expect(() => build({ maxEntries })).toThrow(/maxEntries/);
    }
  });

  it('checks audience and scope, and never remembers beyond exp', async () => {
    await start({ ...opaque, accessTokenSeconds: 60 });
    const [token, other] = [await mint(), await mint('urn:other')];
    expect(await build().introspect(other)).toEqual({ active: false, reason: 'wrong_audience' });
    expect(await build({ scope: 'orders:write' }).introspect(token)).toEqual({
      active: false,
      reason: 'insufficient_scope',
    });
    const { introspect } = build({ maxCacheSeconds: 3600 });
    expect(await introspect(token)).toMatchObject({ active: true });
    const before = server.count('introspection');
    clock.advance(120_000);
    expect(await introspect(token)).toEqual({ active: false, reason: 'expired' });
    expect(server.count('introspection')).toBe(before + 1);
  });

  it('remembers that a token is not active briefly, and apart from those that are', async () => {
    await start(opaque);
    const token = await mint();
    const { introspect } = build({ maxEntries: 5, maxCacheSeconds: 600 });
    await introspect(token);
    for (let index = 0; index < 20; index += 1) {
      expect(await introspect(`made-up-${index}`)).toEqual({ active: false, reason: 'inactive' });
    }
    await introspect(token);
    await introspect('made-up-19');
    expect(server.count('introspection')).toBe(21);
    clock.advance(5001);
    await introspect('made-up-19');
    expect(server.count('introspection')).toBe(22);
  });

  it('notices a revocation when asked not to remember', async () => {
    await start(opaque);
    const token = await mint();
    const { introspect } = build({ maxCacheSeconds: 0 });
    expect(await introspect(token)).toMatchObject({ active: true });
    await revokeToken(secretClient('basic'), token);
    expect(await introspect(token)).toEqual({ active: false, reason: 'inactive' });
  });

  it('does not ask about what cannot be a token', async () => {
    await start(opaque);
    for (const nonsense of ['', 'a b', 'a\r\nb', 'ü', 'x'.repeat(9000), `x${'='.repeat(9000)}`]) {
      expect(await build().introspect(nonsense)).toMatchObject({ active: false });
    }
    expect(server.requests).toHaveLength(0);
  });

  it('accepts no token when the server does not answer, or not as it must', async () => {
    await start(opaque);
    const json = { 'content-type': 'application/json' };
    for (const [answer, code] of [
      [{ status: 500 }, 'ERR_OAUTH_UNAVAILABLE'],
      [{ status: 200, headers: json, body: '{"active":"true"}' }, 'ERR_OAUTH_RESPONSE'],
      [{ status: 200, headers: json, body: '[]' }, 'ERR_OAUTH_RESPONSE'],
      [{ status: 401, headers: json, body: '{"error":"invalid_client"}' }, 'ERR_OAUTH_REFUSED'],
    ] as const) {
      server.intercept('introspection', answer);
      await expect(build({ retries: 0 }).introspect('token')).rejects.toMatchObject({ code });
    }
    expect(() => build({ audience: [] })).toThrow(/audience/);
    for (const value of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => build({ maxCacheSeconds: value })).toThrow(/maxCacheSeconds/);
      expect(() => build({ negativeCacheSeconds: value })).toThrow(/negativeCacheSeconds/);
    }
  });
});

describe('mutual TLS', () => {
  it('authenticates with the certificate, at the endpoints for it, and gets tokens bound to it', async () => {
    const authority = testCertificate();
    const own = testCertificate(['client']);
    const { d: _, ...jwk } = own.privateKey.export({ format: 'jwk' });
    await start({
      tls: authority,
      clients: [
        {
          client_id: 'tls-client',
          grant_types: ['client_credentials'],
          redirect_uris: [],
          response_types: [],
          token_endpoint_auth_method: 'self_signed_tls_client_auth',
          tls_client_certificate_bound_access_tokens: true,
          jwks: { keys: [{ ...jwk, kty: 'EC', x5c: [own.base64] }] as never },
        },
      ],
    });
    const source = clientCredentials({
      issuer: server.issuer,
      clientId: 'tls-client',
      clientAuth: mutualTls({ ...own, ca: authority.cert }),
      resource: 'https://api.example.com',
    });
    const token = await source.getToken();
    expect(decodeJwt(token.value)['cnf']).toEqual({ 'x5t#S256': expect.any(String) });
    const [asked] = server.requests.filter(({ endpoint }) => endpoint === 'token');
    expect(asked?.headers.host).toBe(`127.0.0.1:${server.port}`);
    expect(asked?.params).toEqual(
      expect.objectContaining({ client_id: 'tls-client', grant_type: 'client_credentials' }),
    );
    const stranger = testCertificate(['client']);
    const refused = clientCredentials({
      issuer: server.issuer,
      clientId: 'tls-client',
      clientAuth: mutualTls({ ...stranger, ca: authority.cert }),
    });
    await expect(refused.getToken()).rejects.toMatchObject({ error: 'invalid_client' });
  });

  it('shows its key to nobody', () => {
    const own = testCertificate();
    const auth = mutualTls(own);
    const secret = own.key.split('\n')[1] ?? '';
    expect(secret.length).toBeGreaterThan(20);
    expect(inspect(auth, { depth: 9, showHidden: true })).not.toContain(secret);
    expect(JSON.stringify(auth)).not.toContain(secret);
  });

  it('refuses what is no certificate, and its key', async () => {
    await start();
    const { cert, key } = testCertificate();
    expect(() => mutualTls({ cert: 'x', key })).toThrow(/cert/);
    expect(() => mutualTls({ cert, key: 'x' })).toThrow(/key/);
  });
});

describe('workload identity', () => {
  it('reads the token file for each attempt, so that a replaced one is used', async () => {
    await start();
    const api = await startScriptedServer();
    const folder = await mkdtemp(join(tmpdir(), 'countersign-oauth-'));
    const tokenFile = join(folder, 'token');
    const good = { access_token: 'x', token_type: 'Bearer', expires_in: 60 };
    api.enqueue(respondJson(good), respondJson(good));
    const source = clientCredentials({
      server: { issuer: api.origin, token_endpoint: `${api.origin}/token` },
      allowInsecureLoopback: true,
      clientId: 'pod',
      clientAuth: workloadIdentity({ tokenFile }),
    });
    await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_CREDENTIAL' });
    await writeFile(tokenFile, '  \n');
    await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_CREDENTIAL' });
    await writeFile(tokenFile, 'first\n');
    await source.getToken();
    await writeFile(tokenFile, 'second\n');
    await source.getToken({ forceRenewal: true });
    const sent = api.requests.map(({ body }) => new URLSearchParams(body.toString()));
    expect(sent.map((form) => form.get('client_assertion'))).toEqual(['first', 'second']);
    expect(sent[0]?.get('client_assertion_type')).toBe(
      'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    );
    await api.stop();
    await rm(folder, { recursive: true });
    expect(() => workloadIdentity({ tokenFile: '' })).toThrow(/tokenFile/);
  });
});
