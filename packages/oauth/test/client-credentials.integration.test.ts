import { generateKeyPairSync } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { fakeClock } from '@countersign/testkit/clock';
import {
  type OAuthServer,
  type OAuthServerOptions,
  startOAuthServer,
} from '@countersign/testkit/oauth-server';
import { startScriptedServer } from '@countersign/testkit/scripted-server';
import { decodeJwt, decodeProtectedHeader } from 'jose';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type ClientCredentialsOptions,
  clientCredentials,
  clientSecretBasic,
  clientSecretPost,
  memoryTokenStore,
  privateKeyJwt,
} from '../src/index.ts';

let server: OAuthServer;
const start = async (options?: OAuthServerOptions) => {
  server = await startOAuthServer(options);
};
afterEach(() => server.stop());

const RESOURCE = 'https://api.example.com';

const service = (options: Partial<ClientCredentialsOptions> = {}) => {
  const { clientId, privateKey, keyId } = server.clients.service;
  return clientCredentials({
    issuer: server.issuer,
    allowInsecureLoopback: true,
    clientId,
    clientAuth: privateKeyJwt(privateKey, { keyId }),
    resource: RESOURCE,
    scope: 'orders:read',
    ...options,
  });
};
const tokenRequests = () => server.requests.filter(({ endpoint }) => endpoint === 'token');

describe('client authentication', () => {
  it('proves itself with a signed assertion for the issuer alone, with its own typ', async () => {
    await start();
    const token = await service().getToken();
    expect(token).toMatchObject({ type: 'Bearer', scope: 'orders:read', generation: 1 });
    expect(decodeJwt(token.value)).toMatchObject({ aud: RESOURCE, client_id: 'service' });
    const assertion = String(tokenRequests()[0]?.params['client_assertion']);
    expect(decodeProtectedHeader(assertion)).toEqual({
      alg: 'ES256',
      kid: 'service-key-1',
      typ: 'client-authentication+jwt',
    });
    expect(decodeJwt(assertion)).toMatchObject({
      iss: 'service',
      sub: 'service',
      aud: server.issuer,
      jti: expect.any(String),
    });
  });

  it('makes a new assertion for every attempt, retried ones too', async () => {
    await start();
    server.intercept('token', { status: 503 });
    await service().getToken();
    await service().getToken();
    const ids = tokenRequests()
      .map(({ params }) => params['client_assertion'])
      .filter(Boolean)
      .map((assertion) => decodeJwt(String(assertion)).jti);
    expect(ids).toHaveLength(2);
    expect(new Set(ids).size).toBe(2);
  });

  it('form-encodes id and secret for the Authorization header', async () => {
    await start();
    const { clientId, clientSecret } = server.clients.basic;
    const source = service({ clientId, clientAuth: clientSecretBasic(clientSecret) });
    expect((await source.getToken()).type).toBe('Bearer');
    expect(tokenRequests()[0]?.params).not.toHaveProperty('client_secret');
  });

  it('posts the secret, which may come from a function', async () => {
    await start();
    const { clientId, clientSecret } = server.clients.post;
    const source = service({ clientId, clientAuth: clientSecretPost(async () => clientSecret) });
    expect((await source.getToken()).type).toBe('Bearer');
  });
});

describe('DPoP', () => {
  it('binds the token, with the nonce the server demands and a fresh proof and assertion each time', async () => {
    await start({ dpopNonceRequired: true });
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const source = service({ dpop: { key: privateKey } });
    const told: unknown[] = [];
    const listen = (event: unknown) => void told.push(event);
    subscribe('countersign:oauth:retry', listen);
    const token = await source.getToken();
    unsubscribe('countersign:oauth:retry', listen);
    expect(token.type).toBe('DPoP');
    expect(told).toMatchObject([{ code: 'ERR_OAUTH_DPOP', retry: 1, waitMs: 0 }]);
    const seen = tokenRequests();
    expect(seen.map(({ status }) => status)).toEqual([400, 200]);
    const proofs = seen.map(({ headers }) => decodeJwt(String(headers['dpop'])));
    expect(proofs[0]).not.toHaveProperty('nonce');
    expect(proofs[1]).toMatchObject({
      nonce: expect.any(String),
      htm: 'POST',
      htu: `${server.issuer}/token`,
    });
    expect(proofs[0]?.jti).not.toBe(proofs[1]?.jti);
    const assertions = seen.map(({ params }) => decodeJwt(String(params['client_assertion'])).jti);
    expect(assertions[0]).not.toBe(assertions[1]);
    // The nonce of a 200 serves the next request.
    await source.getToken({ forceRenewal: true });
    expect(tokenRequests()).toHaveLength(3);
  });
});

describe('one request for many', () => {
  it('serves 10,000 cold callers with one request, and later ones from memory', async () => {
    await start();
    const source = service();
    const tokens = await Promise.all(Array.from({ length: 10_000 }, () => source.getToken()));
    expect(new Set(tokens).size).toBe(1);
    await source.getToken({ scope: 'orders:read', resource: RESOURCE });
    expect(server.count('token')).toBe(2);
    expect(server.count('discovery')).toBe(1);
  });

  it('keeps tokens of different scopes and resources apart', async () => {
    await start();
    const source = service();
    const [read, write, other] = await Promise.all([
      source.getToken({ scope: 'orders:read' }),
      source.getToken({ scope: 'orders:write' }),
      source.getToken({ resource: 'https://other.example.com' }),
    ]);
    expect([read?.scope, write?.scope]).toEqual(['orders:read', 'orders:write']);
    expect(decodeJwt(other?.value ?? '').aud).toBe('https://other.example.com');
    expect(await source.getToken({ scope: 'orders:write orders:read' })).toBe(
      await source.getToken({ scope: 'orders:read orders:write' }),
    );
  });
});

it('shares a token in a store only where everything is the same', async () => {
  await start();
  const store = memoryTokenStore();
  const { clientId, clientSecret } = server.clients.basic;
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const differences: Partial<ClientCredentialsOptions>[] = [
    {},
    { scope: 'orders:write' },
    { resource: 'https://other.example.com' },
    { audience: 'https://api.example.com' },
    { parameters: { tenant: 'a' } },
    { parameters: { tenant: 'b' } },
    { dpop: { key: privateKey } },
    { dpop: true },
    { clientId, clientAuth: clientSecretBasic(clientSecret) },
  ];
  const ask = () =>
    Promise.all(differences.map((options) => service({ ...options, store }).getToken()));
  const first = await ask();
  expect(new Set(first.map(({ value }) => value)).size).toBe(differences.length);
  server.forget();
  const second = await ask();
  // Only the key that this process made for itself is new.
  expect(server.count('token')).toBe(1);
  const reused = second.filter(({ value }) => first.some((token) => token.value === value));
  expect(reused).toHaveLength(differences.length - 1);
});

it('leaves the server alone, in all processes, for as long as it asked one of them to', async () => {
  await start();
  const clock = fakeClock(Date.now());
  const store = memoryTokenStore({ now: clock.now });
  server.intercept('token', { status: 429, headers: { 'retry-after': '30' } });
  const busy = { code: 'ERR_OAUTH_UNAVAILABLE', retryAfterMs: 30_000 };
  for (let process = 0; process < 5; process += 1) {
    await expect(service({ store, now: clock.now }).getToken()).rejects.toMatchObject(busy);
  }
  expect(server.count('token')).toBe(1);
  clock.advance(30_000);
  expect((await service({ store }).getToken()).generation).toBe(1);
});

it('does not let one process that cannot reach the server speak for the rest', async () => {
  await start();
  const closed = await startScriptedServer();
  await closed.stop();
  const store = memoryTokenStore();
  const { issuer } = server;
  const at = (origin: string) =>
    service({ store, retries: 0, server: { issuer, token_endpoint: `${origin}/token` } });
  const alone = at(closed.origin);
  for (let failure = 0; failure < 5; failure += 1) {
    await expect(alone.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_NETWORK' });
  }
  await expect(alone.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_UNAVAILABLE' });
  expect((await at(issuer).getToken()).generation).toBe(1);
});

it('trusts the store’s clock, not that of the process that got the token', async () => {
  await start({ accessTokenSeconds: 60 });
  const clock = fakeClock(Date.now());
  const store = memoryTokenStore({ now: clock.now });
  await service({ store, now: () => clock.now() + 3_600_000 }).getToken();
  const shared = await service({ store, now: clock.now }).getToken();
  expect(server.count('token')).toBe(1);
  expect(shared.expiresAtMs - clock.now()).toBeLessThanOrEqual(60_000);
});

it.each([
  ['the value of another', { value: 'not even JSON' }],
  ['what expired, again and again', { value: JSON.stringify({ expiresAtMs: 0 }) }],
])('goes straight to the server when a store gives it %s', async (_, found) => {
  await start();
  const claim = async () =>
    ({ status: 'current', generation: 1, remainingMs: 60_000, ...found }) as const;
  const source = service({ store: { ...memoryTokenStore(), claim } });
  expect((await source.getToken()).value).toBeTruthy();
});

it('does not join the crowd when those before it keep failing', async () => {
  await start();
  const held = { claim: async () => ({ status: 'held', remainingMs: 5 }) as const };
  const store = { ...memoryTokenStore(), ...held };
  await expect(service({ store, timeoutMs: 20 }).getToken()).rejects.toMatchObject({
    code: 'ERR_OAUTH_TIMEOUT',
  });
  expect(server.count('token')).toBe(0);
});
