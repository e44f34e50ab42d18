import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type OAuthServer, startOAuthServer } from '@countersign/testkit/oauth-server';
import { respondJson, startScriptedServer } from '@countersign/testkit/scripted-server';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import {
  authorizationCode,
  clientCredentials,
  clientSecretBasic,
  introspector,
  memoryTokenStore,
  privateKeyJwt,
  refreshToken,
  revokeToken,
} from '../src/index.ts';

const RESOURCE = 'https://api.example.com';
let server: OAuthServer;
// The server runs in this process and reads Date: one clock moves both sides, and no timer.
beforeEach(async () => {
  vi.useFakeTimers({ toFake: ['Date'] });
  server = await startOAuthServer({
    accessTokenSeconds: 60,
    refreshTokenSeconds: 300,
    defaultResource: RESOURCE,
  });
});
afterEach(async () => {
  await server.stop();
  vi.useRealTimers();
});

const client = () => {
  const { clientId, privateKey, keyId } = server.clients.service;
  return {
    allowInsecureLoopback: true,
    clientId,
    clientAuth: privateKeyJwt(privateKey, { keyId }),
  };
};
const source = () =>
  clientCredentials({ ...client(), issuer: server.issuer, store: memoryTokenStore() });
const advance = (seconds: number) => vi.setSystemTime(Date.now() + seconds * 1000);
const turn = () => new Promise((resolve) => setImmediate(resolve));

it('never hands out a token that the server no longer accepts, for an hour of one-minute tokens', async () => {
  const tokens = source();
  const accepted: string[] = [];
  for (let elapsed = 0; elapsed < 3600; elapsed += 17) {
    const { value } = await tokens.getToken();
    await jwtVerify(value, createLocalJWKSet(server.jwks), { audience: RESOURCE });
    accepted.push(value);
    advance(17);
    // A renewal in the background gets its turn.
    await tokens.getToken({ forceRenewal: 0 });
  }
  expect(new Set(accepted).size).toBeGreaterThan(60);
  expect(server.count('token')).toBeLessThanOrEqual(140);
});

it('renews in the background while the token is still accepted', async () => {
  const tokens = source();
  const first = await tokens.getToken();
  advance(35);
  expect(await tokens.getToken()).toBe(first);
  await expect.poll(async () => (await tokens.getToken()).generation).toBe(2);
  expect(server.count('token')).toBe(2);
});

it('keeps a grant alive as long as it is used, and not longer', async () => {
  const { clientId, clientSecret } = server.clients.web;
  const grant = refreshToken({
    issuer: server.issuer,
    allowInsecureLoopback: true,
    clientId,
    clientAuth: clientSecretBasic(clientSecret),
    initial: await server.mintRefreshToken(),
    store: memoryTokenStore(),
  });
  for (let use = 1; use <= 5; use += 1) {
    expect((await grant.getToken()).generation).toBe(use);
    advance(250);
  }
  advance(100);
  await expect(grant.getToken()).rejects.toMatchObject({ error: 'invalid_grant' });
});

it('survives a rotation of the signing keys', async () => {
  const tokens = source();
  await tokens.getToken();
  await server.rotateKeys({ keepOld: false });
  const { value } = await tokens.getToken({ forceRenewal: true });
  await jwtVerify(value, createLocalJWKSet(server.jwks));
});

it('tells what it does on its channels, without secrets', async () => {
  const events: [string, Record<string, unknown>][] = [];
  const names = ['request', 'cache-hit', 'renewal', 'retry', 'failure'];
  const listeners = names.map((name) => {
    const listen = (message: unknown) =>
      void events.push([name, message as Record<string, unknown>]);
    subscribe(`countersign:oauth:${name}`, listen);
    return () => unsubscribe(`countersign:oauth:${name}`, listen);
  });
  const tokens = source();
  server.intercept('token', { status: 503 });
  const { value } = await tokens.getToken();
  await tokens.getToken();
  server.intercept('token', { status: 400 });
  await tokens.getToken({ forceRenewal: true }).catch(() => {});
  await turn();
  const api = await startScriptedServer({
    otherwise: respondJson({ error: 'no' }, { status: 400 }),
  });
  const at = (name: string) => ({ [`${name}_endpoint`]: `${api.origin}/${name}` });
  const elsewhere = {
    ...client(),
    server: { issuer: server.issuer, ...at('revocation'), ...at('introspection'), ...at('token') },
  };
  await revokeToken(elsewhere, value).catch(() => {});
  const { introspect } = introspector({ ...elsewhere, audience: 'a' });
  await introspect(value).catch(() => {});
  const pending = {
    redirectUri: 'https://app.example.com',
    state: 's',
    codeVerifier: 'v'.repeat(43),
  };
  await authorizationCode(elsewhere, 'code=c&state=s', pending).catch(() => {});
  await api.stop();
  for (const stop of listeners) stop();
  const who = { issuer: server.issuer, clientId: 'service' };
  const grantType = 'client_credentials';
  const durationMs = expect.any(Number);
  expect(events).toEqual([
    ['request', { ...who, grantType, status: 503, durationMs }],
    [
      'retry',
      {
        ...who,
        at: 'authorization-server',
        grantType,
        retry: 1,
        waitMs: durationMs,
        code: 'ERR_OAUTH_UNAVAILABLE',
        durationMs,
      },
    ],
    ['request', { ...who, grantType, status: 200, durationMs }],
    ['renewal', { ...who, generation: 1, expiresAtMs: durationMs, durationMs }],
    ['cache-hit', { ...who, from: 'memory', generation: 1, durationMs }],
    ['request', { ...who, grantType, status: 400, durationMs }],
    ['failure', { ...who, phase: 'renewal', code: 'ERR_OAUTH_RESPONSE', durationMs }],
    ...['revocation', 'introspection', 'authorization_code'].flatMap((phase) => [
      ['request', { ...who, grantType: phase, status: 400, durationMs }],
      ['failure', { ...who, phase, code: 'ERR_OAUTH_REFUSED', durationMs }],
    ]),
  ]);
  expect(JSON.stringify(events)).not.toContain(value);
});
