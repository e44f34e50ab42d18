import { type OAuthServer, startOAuthServer } from '@countersign/testkit/oauth-server';
import {
  respond,
  type ScriptedServer,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { Agent, type Dispatcher, request } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { accessToken, clientCredentials, privateKeyJwt, type TokenSource } from '../src/index.ts';

let server: OAuthServer;
let api: ScriptedServer;
let source: TokenSource;
let agent: Agent;
let dispatcher: Dispatcher;
beforeAll(async () => {
  server = await startOAuthServer({ defaultResource: 'https://api.example.com' });
});
afterAll(() => server.stop());
beforeEach(async () => {
  server.forget();
  api = await startScriptedServer();
  const { clientId, privateKey, keyId } = server.clients.service;
  source = clientCredentials({
    issuer: server.issuer,
    allowInsecureLoopback: true,
    clientId,
    clientAuth: privateKeyJwt(privateKey, { keyId }),
  });
  agent = new Agent();
  dispatcher = agent.compose(accessToken(source));
});
afterEach(async () => {
  await agent.destroy();
  await api.stop();
});

const refused = (error = 'invalid_token') =>
  respond({
    status: 401,
    headers: { 'www-authenticate': `Bearer realm="x", error="${error}"` },
    body: 'no',
  });
const authorization = (index: number) => api.requests[index]?.headers['authorization'];

it('puts the token on requests', async () => {
  const { statusCode } = await request(api.origin, { dispatcher, headers: { accept: '*/*' } });
  expect(statusCode).toBe(200);
  expect(authorization(0)).toBe(`Bearer ${(await source.getToken()).value}`);
  expect(api.requests[0]?.headers).toMatchObject({ accept: '*/*' });
});

it('renews once and repeats once after invalid_token, with the same body', async () => {
  api.enqueue(refused());
  const { statusCode } = await request(api.origin, { dispatcher, method: 'POST', body: 'pay' });
  expect(statusCode).toBe(200);
  expect(api.requests.map(({ body }) => String(body))).toEqual(['pay', 'pay']);
  expect(authorization(0)).not.toBe(authorization(1));
  expect(server.count('token')).toBe(2);
});

it('hands a second refusal to the caller', async () => {
  api.enqueue(refused(), refused());
  const { statusCode, body } = await request(api.origin, { dispatcher });
  expect([statusCode, await body.text()]).toEqual([401, 'no']);
  expect(api.requests).toHaveLength(2);
});
