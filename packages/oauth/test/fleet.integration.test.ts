import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type FaultProxy, startFaultProxy } from '@countersign/testkit/fault-proxy';
import { type OAuthServer, startOAuthServer } from '@countersign/testkit/oauth-server';
import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import { decodeJwt } from 'jose';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  type ClientCredentialsOptions,
  clientCredentials,
  clientSecretBasic,
  privateKeyJwt,
  refreshToken,
} from '../src/index.ts';
import { redisTokenStore } from '../src/redis.ts';
import type { WorkerOptions, WorkerResult } from './fleet-worker.ts';

const PROCESSES = 8;
const encryptionKey = randomBytes(32).toString('base64url');
let server: OAuthServer;
let redis: RedisServer;
const workers = new Set<ChildProcess>();
beforeAll(async () => {
  [server, redis] = await Promise.all([startOAuthServer(), startRedis({ persistence: 'aof' })]);
});
afterAll(() => Promise.all([server.stop(), redis.stop()]));
beforeEach(async () => {
  server.forget();
  await redis.client().flushall();
});
afterEach(() => {
  for (const worker of workers) worker.kill('SIGKILL');
  workers.clear();
});

interface Worker {
  readonly process: ChildProcess;
  /** Asks for tokens; with a number, for ones newer than that generation. */
  ask(generation?: number): Promise<WorkerResult>;
}

async function startWorker(options: Partial<WorkerOptions>): Promise<Worker> {
  const { clientId, privateKey, keyId } = server.clients.service;
  const all: WorkerOptions = {
    issuer: server.issuer,
    redisPort: redis.port,
    encryptionKey,
    callers: 50,
    client: { clientId, key: privateKey.export({ format: 'jwk' }), keyId },
    ...options,
  };
  const script = fileURLToPath(new URL('fleet-worker.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(all)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  workers.add(child);
  const lines = createInterface({ input: child.stdout });
  const next = async () => String((await once(lines, 'line'))[0]);
  await next();
  return {
    process: child,
    ask: async (generation) => {
      const answer = next();
      child.stdin.write(`${generation ?? ''}\n`);
      return JSON.parse(await answer) as WorkerResult;
    },
  };
}
const startFleet = (options: Partial<WorkerOptions> = {}) =>
  Promise.all(Array.from({ length: PROCESSES }, () => startWorker(options)));
const gather = (results: readonly WorkerResult[]) => ({
  tokens: new Set(results.flatMap(({ tokens }) => tokens)).size,
  generations: [...new Set(results.flatMap(({ generations }) => generations))],
  failures: results.flatMap(({ failures }) => failures),
});

describe('eight processes', () => {
  it('that are cold make one request, and one for each renewal', async () => {
    const fleet = await startFleet();
    const cold = gather(await Promise.all(fleet.map((worker) => worker.ask())));
    expect(cold).toEqual({ tokens: 1, generations: [1], failures: [] });
    expect(server.count('token')).toBe(1);
    const renewed = gather(await Promise.all(fleet.map((worker) => worker.ask(1))));
    expect(renewed).toEqual({ tokens: 1, generations: [2], failures: [] });
    expect(server.count('token')).toBe(2);
  });

  it('racing a rotation use each refresh token once, and the grant lives', async () => {
    const { clientId, clientSecret } = server.clients.web;
    const initial = await server.mintRefreshToken();
    const fleet = await startFleet({ client: { clientId, clientSecret, initial } });
    for (let generation = 0; generation < 5; generation += 1) {
      const results = await Promise.all(fleet.map((worker) => worker.ask(generation)));
      expect(gather(results)).toEqual({ tokens: 1, generations: [generation + 1], failures: [] });
    }
    const used = server.requests
      .filter(({ endpoint }) => endpoint === 'token')
      .map(({ params }) => params['refresh_token']);
    expect(used).toHaveLength(5);
    expect(new Set(used).size).toBe(5);
  });

  it('racing a rotation prove themselves by key, bind tokens and are given nonces, and the grant lives', async () => {
    const strict = await startOAuthServer({ dpopNonceRequired: true });
    const { clientId, privateKey, keyId } = strict.clients.webKey;
    const dpop = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const client = {
      clientId,
      key: privateKey.export({ format: 'jwk' }),
      keyId,
      initial: await strict.mintRefreshToken({ clientId }),
      dpopKey: dpop.export({ format: 'jwk' }),
    };
    const fleet = await startFleet({ issuer: strict.issuer, client });
    for (let generation = 0; generation < 5; generation += 1) {
      const results = await Promise.all(fleet.map((worker) => worker.ask(generation)));
      expect(gather(results)).toEqual({ tokens: 1, generations: [generation + 1], failures: [] });
    }
    const asked = strict.requests.filter(({ endpoint }) => endpoint === 'token');
    const used = asked.filter(({ status }) => status === 200);
    expect(used).toHaveLength(5);
    expect(new Set(used.map(({ params }) => params['refresh_token'])).size).toBe(5);
    // The rest are the requests that nonces were learnt from.
    expect(asked.length - used.length).toBeLessThanOrEqual(PROCESSES);
    const assertions = asked.map(({ params }) => decodeJwt(String(params['client_assertion'])).jti);
    expect(new Set(assertions).size).toBe(asked.length);
    await strict.stop();
  });

  it('that a bad credential refuses ask once between them', async () => {
    const { privateKey, keyId } = server.clients.service;
    const key = privateKey.export({ format: 'jwk' });
    const fleet = await startFleet({ client: { clientId: 'nobody', key, keyId } });
    const results = await Promise.all(fleet.map((worker) => worker.ask()));
    expect(gather(results)).toMatchObject({
      tokens: 0,
      failures: Array(PROCESSES).fill('ERR_OAUTH_REFUSED'),
    });
    expect(server.count('token')).toBe(1);
  });
});

describe('a process that is killed', () => {
  it('while it gets a token holds nobody up for longer than its lease', async () => {
    const proxy = await startFaultProxy({ port: server.port });
    proxy.set('toServer', { blackhole: true });
    const doomed = await startWorker({ tokenEndpoint: `http://127.0.0.1:${proxy.port}/token` });
    void doomed.ask().catch(() => {});
    const admin = redis.client();
    await expect.poll(() => admin.keys('oauth:*')).toHaveLength(1);
    doomed.process.kill('SIGKILL');
    const [key = ''] = await admin.keys('oauth:*');
    const heir = await startWorker({});
    const answer = heir.ask();
    await admin.hincrby(key, 'lu', -10_000);
    expect(await answer).toMatchObject({ generations: [1], failures: [] });
    await proxy.stop();
  });

  it('while it uses a refresh token leaves its intent, and nobody uses the token again', async () => {
    const { clientId, clientSecret } = server.clients.web;
    const initial = await server.mintRefreshToken();
    const client = { clientId, clientSecret, initial };
    const proxy = await startFaultProxy({ port: server.port });
    const tokenEndpoint = `http://127.0.0.1:${proxy.port}/token`;
    // The request arrives; its answer does not.
    proxy.set('toClient', { blackhole: true });
    const doomed = await startWorker({ client, tokenEndpoint });
    void doomed.ask().catch(() => {});
    await expect.poll(() => server.count('token')).toBe(1);
    doomed.process.kill('SIGKILL');
    await proxy.stop();
    const admin = redis.client();
    const [key = ''] = await admin.keys('oauth:*');
    await admin.hincrby(key, 'lu', -30_000);
    await redis.restart();
    const heir = await startWorker({ client });
    expect(await heir.ask()).toEqual({
      tokens: [],
      generations: [],
      failures: ['ERR_OAUTH_ROTATION_AMBIGUOUS'],
    });
    expect(server.count('token')).toBe(1);
  });
});

describe('a failover to a replica that fell behind', () => {
  it.each([
    ['after a rotation', undefined, 'ERR_OAUTH_ROTATION_AMBIGUOUS'],
    ['during a rotation', 2, undefined],
  ])('%s has no refresh token used twice', async (_, promotedAt, code) => {
    const replica = await startRedis();
    const [master, copy] = [redis.client(), replica.client()];
    await copy.replicaof('127.0.0.1', redis.port);
    await expect.poll(() => copy.info('replication')).toContain('master_link_status:up');
    const storeOf = (client: typeof master) =>
      redisTokenStore(client, { encryptionKeys: [encryptionKey], timeoutMs: 20_000 });
    let store = storeOf(master);
    let completions = 0;
    const { clientId, clientSecret } = server.clients.web;
    const source = refreshToken({
      issuer: server.issuer,
      allowInsecureLoopback: true,
      clientId,
      clientAuth: clientSecretBasic(clientSecret),
      initial: await server.mintRefreshToken(),
      store: {
        claim: (...args) => store.claim(...args),
        complete: (...args) => {
          completions += 1;
          if (completions === promotedAt) store = storeOf(copy);
          return store.complete(...args);
        },
        release: (...args) => store.release(...args),
      },
    });
    await source.getToken();
    const copied = async () => copy.hget((await copy.keys('oauth:*'))[0] ?? '', 'g');
    await expect.poll(copied).toBe('1');
    await copy.replicaof('NO', 'ONE');
    // The second rotation is one that the replica never hears of, or hears the end of and not the beginning.
    await source.getToken({ forceRenewal: 1 });
    store = storeOf(copy);
    const third = source.getToken({ forceRenewal: 2 });
    if (code) await expect(third).rejects.toMatchObject({ code });
    else expect((await third).generation).toBe(3);
    const used = server.requests.flatMap(({ params }) => params['refresh_token'] ?? []);
    expect(used).toHaveLength(code ? 2 : 3);
    expect(new Set(used).size).toBe(used.length);
    await replica.stop();
  });
});

describe('without Redis', () => {
  const service = (port: number, options: Partial<ClientCredentialsOptions> = {}) => {
    const { clientId, privateKey, keyId } = server.clients.service;
    const client = redis.client({ port });
    return clientCredentials({
      issuer: server.issuer,
      allowInsecureLoopback: true,
      clientId,
      clientAuth: privateKeyJwt(privateKey, { keyId }),
      resource: 'https://api.example.com',
      store: redisTokenStore(client, { encryptionKeys: [encryptionKey], timeoutMs: 200 }),
      ...options,
    });
  };

  it('no call fails: killed in the middle, restarted, paused', async () => {
    const own = await startRedis();
    const sources = Array.from({ length: 4 }, () => service(own.port));
    const renewAll = (generation: number) =>
      Promise.all(sources.map((source) => source.getToken({ forceRenewal: generation })));
    await renewAll(0);
    const during = Promise.all([renewAll(1), own.kill(), renewAll(1)]);
    for (const tokens of (await during).filter(Array.isArray)) expect(tokens).toHaveLength(4);
    expect(await renewAll(2)).toHaveLength(4);
    await own.restart();
    expect(await renewAll(3)).toHaveLength(4);
    own.pause();
    expect(await renewAll(4)).toHaveLength(4);
    own.resume();
    await own.stop();
  });

  it.each<[string, (proxy: FaultProxy) => void]>([
    ['slow', (proxy) => proxy.set('both', { latencyMs: 50 })],
    ['silent', (proxy) => proxy.set('toClient', { blackhole: true })],
    ['reset again and again', (proxy) => proxy.set('toClient', { resetAfterBytes: 10 })],
    [
      'refused',
      (proxy) => {
        proxy.refuse();
        proxy.reset();
      },
    ],
  ])('that is %s no call fails', async (_, inflict) => {
    const proxy = await startFaultProxy({ port: redis.port });
    const source = service(proxy.port);
    await source.getToken();
    inflict(proxy);
    const tokens = await Promise.all(
      Array.from({ length: 20 }, () => source.getToken({ forceRenewal: 1 })),
    );
    expect(new Set(tokens).size).toBe(1);
    expect(tokens[0]?.generation).toBe(2);
    await proxy.stop();
  });
});

describe('a token endpoint', () => {
  let proxy: FaultProxy;
  beforeEach(async () => {
    proxy = await startFaultProxy({ port: server.port });
  });
  afterEach(() => proxy.stop());
  const service = (options: Partial<ClientCredentialsOptions> = {}) => {
    const { clientId, privateKey, keyId } = server.clients.service;
    return clientCredentials({
      server: { issuer: server.issuer, token_endpoint: `http://127.0.0.1:${proxy.port}/token` },
      allowInsecureLoopback: true,
      clientId,
      clientAuth: privateKeyJwt(privateKey, { keyId }),
      resource: 'https://api.example.com',
      ...options,
    });
  };

  it('that is slow is waited for', async () => {
    proxy.set('both', { latencyMs: 100 });
    expect((await service().getToken()).generation).toBe(1);
  });

  it('that resets is asked again', async () => {
    proxy.set('toClient', { resetAfterBytes: 10 });
    const pending = service({ retries: 2 }).getToken();
    await expect.poll(() => server.count('token')).toBeGreaterThan(0);
    await proxy.heal();
    expect((await pending).generation).toBe(1);
  });

  it('that is silent ends in an error, and callers with a token do not notice', async () => {
    const source = service({ retries: 0, attemptTimeoutMs: 1500 });
    const token = await source.getToken();
    proxy.set('toServer', { blackhole: true });
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject({
      code: 'ERR_OAUTH_TIMEOUT',
    });
    expect(await source.getToken()).toBe(token);
  });

  it('that keeps failing is left alone', async () => {
    proxy.refuse();
    const source = service({ retries: 0 });
    const failures: unknown[] = [];
    for (let attempt = 0; attempt < 8; attempt += 1) {
      failures.push(await source.getToken().catch((error: unknown) => error));
    }
    expect(failures.map((error) => (error as { code: string }).code)).toEqual([
      ...Array(5).fill('ERR_OAUTH_NETWORK'),
      ...Array(3).fill('ERR_OAUTH_UNAVAILABLE'),
    ]);
    expect(failures.at(-1)).toHaveProperty('retryAfterMs');
  });
});
