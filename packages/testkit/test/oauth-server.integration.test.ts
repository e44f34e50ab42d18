import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type OAuthServer,
  type OAuthServerOptions,
  startOAuthServer,
} from '../src/oauth-server.ts';

let server: OAuthServer;
const start = async (options?: OAuthServerOptions) => {
  server = await startOAuthServer(options);
  return server;
};
afterEach(() => server.stop());

const basic = ({ clientId, clientSecret }: { clientId: string; clientSecret: string }) =>
  `Basic ${Buffer.from(`${encodeURIComponent(clientId)}:${encodeURIComponent(clientSecret)}`).toString('base64')}`;

const post = async (
  path: string,
  form: Record<string, string>,
  client: { clientId: string; clientSecret: string },
) => {
  const response = await fetch(`${server.issuer}${path}`, {
    method: 'POST',
    headers: { authorization: basic(client) },
    body: new URLSearchParams(form),
  });
  const text = await response.text();
  return {
    status: response.status,
    body: (text ? JSON.parse(text) : {}) as Record<string, unknown>,
  };
};

describe('access tokens', () => {
  it('are RS256 at+jwt for the resource that was named', async () => {
    await start();
    const token = await server.mintAccessToken({
      resource: 'https://payments.example.com',
      scope: 'payments:write',
    });
    const { payload } = await jwtVerify(token, createLocalJWKSet(server.jwks), {
      issuer: server.issuer,
      audience: 'https://payments.example.com',
      typ: 'at+jwt',
      algorithms: ['RS256'],
    });
    expect(payload).toMatchObject({
      sub: 'service',
      client_id: 'service',
      scope: 'payments:write',
      jti: expect.any(String),
    });
    expect(Number(payload.exp) - Number(payload.iat)).toBe(600);
    expect(server.requests).toMatchObject([
      { endpoint: 'token', status: 200, params: { grant_type: 'client_credentials' } },
    ]);
  });

  it('are bound to a DPoP key, with the nonce the server demands', async () => {
    await start({ dpopNonceRequired: true });
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const token = await server.mintAccessToken({ dpop: privateKey });
    const { payload } = await jwtVerify(token, createLocalJWKSet(server.jwks));
    expect(payload['cnf']).toEqual({ jkt: expect.any(String) });
    expect(server.count('token')).toBe(2);
  });

  it('are signed by a new key after a rotation, at the same endpoint', async () => {
    await start();
    const before = decodeProtectedHeader(await server.mintAccessToken()).kid;
    const { kid } = await server.rotateKeys();
    expect(decodeProtectedHeader(await server.mintAccessToken()).kid).toBe(kid);
    const published = (await (await fetch(`${server.issuer}/jwks`)).json()) as {
      keys: { kid: string; d?: string }[];
    };
    expect(published.keys.map((key) => key.kid)).toEqual([kid, before]);
    expect(published.keys.every((key) => key.d === undefined)).toBe(true);
    await server.rotateKeys({ keepOld: false });
    expect(server.jwks.keys).toHaveLength(1);
  });

  it('are given to clients with a basic and with a posted secret', async () => {
    await start();
    const form = { grant_type: 'client_credentials', scope: 'orders:read', resource: 'urn:x' };
    expect(await post('/token', form, server.clients.basic)).toMatchObject({ status: 200 });
    const { clientId: client_id, clientSecret: client_secret } = server.clients.post;
    const body = new URLSearchParams({ ...form, client_id, client_secret });
    const response = await fetch(`${server.issuer}/token`, { method: 'POST', body });
    expect(response.status).toBe(200);
  });
});

describe('refresh tokens', () => {
  it('rotate, and a second use of one revokes the family', async () => {
    await start();
    const refresh = (token: string) =>
      post('/token', { grant_type: 'refresh_token', refresh_token: token }, server.clients.web);
    const first = await server.mintRefreshToken({ scope: 'orders:read' });
    const second = await refresh(first);
    expect(second).toMatchObject({ status: 200, body: { refresh_token: expect.any(String) } });
    expect(await refresh(first)).toMatchObject({ status: 400, body: { error: 'invalid_grant' } });
    expect(await refresh(String(second.body['refresh_token']))).toMatchObject({ status: 400 });
  });

  it('outlive a rotation of the keys', async () => {
    await start();
    const token = await server.mintRefreshToken();
    await server.rotateKeys();
    const form = { grant_type: 'refresh_token', refresh_token: token };
    expect(await post('/token', form, server.clients.web)).toMatchObject({ status: 200 });
  });

  it('come out of an authorization code with PKCE', async () => {
    await start();
    const { clientId, redirectUri } = server.clients.web;
    const verifier = randomBytes(32).toString('base64url');
    const challenge = Buffer.from(
      await crypto.subtle.digest('SHA-256', Buffer.from(verifier)),
    ).toString('base64url');
    const url = new URL(`${server.issuer}/auth`);
    url.search = new URLSearchParams({
      client_id: clientId,
      redirect_uri: redirectUri,
      response_type: 'code',
      scope: 'orders:read',
      resource: 'https://api.example.com',
      state: 'st',
      login_hint: 'bob',
      code_challenge: challenge,
      code_challenge_method: 'S256',
    }).toString();
    const back = await server.authorize(url);
    expect(back.origin + back.pathname).toBe(redirectUri);
    expect(back.searchParams.get('state')).toBe('st');
    const { status, body } = await post(
      '/token',
      {
        grant_type: 'authorization_code',
        code: String(back.searchParams.get('code')),
        redirect_uri: redirectUri,
        code_verifier: verifier,
      },
      server.clients.web,
    );
    expect({ status, body }).toMatchObject({
      status: 200,
      body: { refresh_token: expect.any(String), scope: 'orders:read' },
    });
    const { payload } = await jwtVerify(
      String(body['access_token']),
      createLocalJWKSet(server.jwks),
    );
    expect(payload).toMatchObject({ sub: 'bob', aud: 'https://api.example.com' });
  });
});

it('introspects and revokes opaque tokens', async () => {
  await start({ resources: { 'urn:opaque': { format: 'opaque', scope: 'orders:read' } } });
  const form = { grant_type: 'client_credentials', resource: 'urn:opaque', scope: 'orders:read' };
  const { body } = await post('/token', form, server.clients.basic);
  const token = String(body['access_token']);
  const introspect = () => post('/token/introspection', { token }, server.clients.resourceServer);
  expect((await introspect()).body).toMatchObject({
    active: true,
    aud: 'urn:opaque',
    scope: 'orders:read',
    client_id: server.clients.basic.clientId,
  });
  expect(await post('/token/revocation', { token }, server.clients.basic)).toMatchObject({
    status: 200,
  });
  expect((await introspect()).body).toEqual({ active: false });
});

it('exchanges tokens and names the actor', async () => {
  await start({ defaultResource: 'https://front.example.com' });
  const subject = await server.mintAccessToken();
  const actor = await server.mintAccessToken();
  const { clientAssertion } = await import('../src/oauth-keys.ts');
  const type = 'urn:ietf:params:oauth:token-type:access_token';
  const response = await fetch(`${server.issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({
      ...(await clientAssertion(server.clients.service, server.issuer)),
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: subject,
      subject_token_type: type,
      actor_token: actor,
      actor_token_type: type,
      resource: 'https://back.example.com',
    }),
  });
  const body = (await response.json()) as Record<string, string>;
  expect(body).toMatchObject({ issued_token_type: type, token_type: 'Bearer' });
  const { payload } = await jwtVerify(String(body['access_token']), createLocalJWKSet(server.jwks));
  expect(payload).toMatchObject({ aud: 'https://back.example.com', act: { sub: 'service' } });
});

it('answers as told, or loses what was asked or answered', async () => {
  await start();
  server.intercept('token', { status: 503, headers: { 'retry-after': '2' } });
  await expect(server.mintAccessToken()).rejects.toThrow('refused');
  server.intercept('token', 'lose-request');
  await expect(server.mintAccessToken()).rejects.toThrow('fetch failed');
  const refresh = await server.mintRefreshToken();
  const form = { grant_type: 'refresh_token', refresh_token: refresh };
  server.intercept('token', 'lose-response');
  await expect(post('/token', form, server.clients.web)).rejects.toThrow('fetch failed');
  expect((await post('/token', form, server.clients.web)).body).toMatchObject({
    error_description: expect.any(String),
    error: 'invalid_grant',
  });
});
