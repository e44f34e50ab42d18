import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import { type ConnectionOptions, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createInbox, type Inbox } from '../src/bullmq.ts';
import {
  createReceiver,
  createSigner,
  createVerifier,
  generateSecret,
  memoryReplayStore,
} from '../src/index.ts';
import { until } from './queue-fixture.ts';

let server: RedisServer;
let redis: Redis;
const secret = generateSecret();
const signer = createSigner({ secrets: secret });
const body = '{"amount":42}';

beforeAll(async () => {
  server = await startRedis({ persistence: 'aof' });
  redis = server.client({ maxRetriesPerRequest: null });
});
afterAll(async () => {
  await server.stop();
});
beforeEach(async () => {
  await redis.flushall();
});

const receiverFor = (inbox: Inbox<{ amount: number }>) =>
  createReceiver<{ amount: number }>({
    verifier: createVerifier({ secrets: secret }),
    store: memoryReplayStore(),
    handOver: inbox.add,
  });

test('what was answered with 2xx is processed although the process and Redis went down before', async () => {
  const before = createInbox<{ amount: number }>({ connection: redis, handle: () => undefined });
  const receipt = await receiverFor(before).receive({
    body,
    headers: signer.sign({ id: 'a', body }),
  });
  expect(receipt.status).toBe(202);
  await before.close();
  await server.restart();

  const handled: unknown[] = [];
  const after = createInbox<{ amount: number }>({
    connection: redis,
    handle: ({ id, payload }) => void handled.push([id, payload]),
  });
  after.worker();
  await until(() => handled.length > 0);
  expect(handled).toEqual([['a', { amount: 42 }]]);
  await after.close();
});

test('processes what worker after worker died of, however many', async () => {
  const handled: string[] = [];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    handle: ({ id }) => void handled.push(id),
  });
  await receiverFor(inbox).receive({ body, headers: signer.sign({ id: 'a', body }) });
  const prefix = '{webhooks}';
  const dead = new Worker('inbox', undefined, {
    connection: redis as unknown as ConnectionOptions,
    prefix,
    autorun: false,
  });
  const { id = '' } = (await dead.getNextJob('of somebody dead')) ?? {};
  await dead.close();
  // As BullMQ finds it: in process, its lock is over, and it was so before.
  await redis.del(`${prefix}:inbox:${id}:lock`);
  await redis.sadd(`${prefix}:inbox:stalled`, id);
  await redis.hset(`${prefix}:inbox:${id}`, 'stc', '50');
  inbox.worker();
  await until(() => handled.length > 0);
  expect(handled).toEqual(['a']);
  await inbox.close();
});

test('processes again what failed, and tells of every try that did', async () => {
  let calls = 0;
  const errors: unknown[] = [];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    backoffMs: 1,
    handle: () => {
      calls += 1;
      if (calls < 3) throw new Error(`not yet ${calls}`);
    },
  });
  inbox.worker({ onError: (error) => errors.push(error) });
  await receiverFor(inbox).receive({ body, headers: signer.sign({ id: 'a', body }) });
  await until(() => calls === 3);
  await inbox.close();
  expect(errors).toMatchObject([{ message: 'not yet 1' }, { message: 'not yet 2' }]);
});

test.each([undefined, null, 'a word'])('takes a try for failed that threw %j', async (thrown) => {
  const errors: unknown[] = [];
  let calls = 0;
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    attempts: 2,
    backoffMs: 1,
    handle: async () => {
      calls += 1;
      await Promise.reject<void>(thrown);
    },
  });
  inbox.worker({ onError: (error) => errors.push(error) });
  await receiverFor(inbox).receive({ body, headers: signer.sign({ id: 'a', body }) });
  await until(async () => (await redis.zcard('{webhooks}:inbox:failed')) === 1);
  await inbox.close();
  expect(calls).toBe(2);
  const told = { message: `handle threw ${thrown}`, cause: thrown };
  expect(errors).toMatchObject([told, told]);
});

test('encrypts what it queues when it has keys', async () => {
  const handled: number[] = [];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    encryptionKeys: [Buffer.alloc(32, 1)],
    handle: ({ payload }) => void handled.push(payload.amount),
  });
  await receiverFor(inbox).receive({ body, headers: signer.sign({ id: 'a:b', body }) });
  const key = `{webhooks}:inbox:${Buffer.from('standard-webhooks:a:b').toString('base64url')}`;
  const { data } = await redis.hgetall(key);
  expect(JSON.parse(data ?? '')).toMatchObject({ sealed: true });
  expect(data).not.toContain('amount');
  inbox.worker();
  await until(() => handled.length > 0);
  expect(handled).toEqual([42]);
  await inbox.close();
});

test('uses up no try on what no key opens, and processes it when the key is back', async () => {
  const [older, newer] = [1, 2].map((byte) => Buffer.alloc(32, byte)) as [Buffer, Buffer];
  const handled: number[] = [];
  const handle = ({ payload }: { readonly payload: { readonly amount: number } }): void =>
    void handled.push(payload.amount);
  const before = createInbox<{ amount: number }>({
    connection: redis,
    encryptionKeys: [older],
    handle,
  });
  await receiverFor(before).receive({ body, headers: signer.sign({ id: 'a', body }) });
  await before.close();

  for (const encryptionKeys of [[newer], undefined]) {
    const errors: unknown[] = [];
    const without = createInbox<{ amount: number }>({
      connection: redis,
      attempts: 1,
      handle,
      ...(encryptionKeys && { encryptionKeys }),
    });
    without.worker({ onError: (error) => errors.push(error) });
    await until(() => errors.length > 0);
    expect(errors).toMatchObject([{ code: 'ERR_WEBHOOKS_STORE_FAILED' }]);
    await without.close();
    const [job = ''] = await redis.zrange('{webhooks}:inbox:delayed', '0', '-1');
    expect(await redis.hget(`{webhooks}:inbox:${job}`, 'atm')).toBeNull();
    // Ten minutes later.
    await redis.zadd('{webhooks}:inbox:delayed', 'XX', '1', job);
  }

  const after = createInbox<{ amount: number }>({
    connection: redis,
    encryptionKeys: [newer, older],
    handle,
  });
  after.worker();
  await until(() => handled.length > 0);
  expect(handled).toEqual([42]);
  await after.close();
});

test('does not open what was moved to another webhook', async () => {
  const options = {
    connection: redis,
    encryptionKeys: [Buffer.alloc(32, 1)],
    handle: () => undefined,
  };
  const inbox = createInbox<{ amount: number }>(options);
  for (const id of ['a', 'b'])
    await receiverFor(inbox).receive({ body, headers: signer.sign({ id, body }) });
  const keyOf = (id: string): string =>
    `{webhooks}:inbox:${Buffer.from(`standard-webhooks:${id}`).toString('base64url')}`;
  await redis.hset(keyOf('a'), 'data', (await redis.hget(keyOf('b'), 'data')) ?? '');
  const errors: unknown[] = [];
  inbox.worker({ onError: (error) => errors.push(error) });
  await until(() => errors.length > 0);
  expect(errors).toMatchObject([{ code: 'ERR_WEBHOOKS_STORE_FAILED' }]);
  await inbox.close();
});

test('uses up no try when it is closed in the middle of one', async () => {
  const tries: AbortSignal[] = [];
  const inboxWith = () =>
    createInbox<{ amount: number }>({
      connection: redis,
      attempts: 1,
      handle: async (_, signal) => {
        tries.push(signal);
        if (tries.length > 2) return;
        await new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(new Error('stopped'))),
        );
      },
    });
  let inbox = inboxWith();
  await receiverFor(inbox).receive({ body, headers: signer.sign({ id: 'a', body }) });
  inbox.worker();
  for (const restarts of [1, 2]) {
    await until(() => tries.length === restarts);
    await inbox.close();
    inbox = inboxWith();
    inbox.worker();
  }
  await until(() => tries.length === 3);
  await inbox.close();
  expect(await redis.zcard('{webhooks}:inbox:failed')).toBe(0);
});

test('keeps apart what two senders gave the same id', async () => {
  const handled: string[] = [];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    handle: ({ id, source }) => void handled.push(`${source} ${id}`),
  });
  const verifier = createVerifier({ secrets: secret });
  const store = memoryReplayStore();
  for (const source of ['one', 'two']) {
    const receiver = createReceiver<{ amount: number }>({
      verifier,
      store,
      source,
      handOver: inbox.add,
    });
    const { status } = await receiver.receive({ body, headers: signer.sign({ id: '1', body }) });
    expect(status).toBe(202);
  }
  inbox.worker();
  await until(() => handled.length === 2);
  expect(handled.sort()).toEqual(['one 1', 'two 1']);
  await inbox.close();
});

test('processes anew what was given up and comes again', async () => {
  let healthy = false;
  const amounts: number[] = [];
  let tries = 0;
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    attempts: 2,
    backoffMs: 1,
    handle: ({ payload }) => {
      tries += 1;
      if (!healthy || tries % 2 === 1) throw new Error('not yet');
      amounts.push(payload.amount);
    },
  });
  const first = inbox.worker();
  const receive = async (text: string) =>
    // Every receiver has a store of its own: the id is forgotten, as it is after ttlMs.
    await receiverFor(inbox).receive({ body: text, headers: signer.sign({ id: 'a', body: text }) });
  expect((await receive(body)).status).toBe(202);
  const failed = '{webhooks}:inbox:failed';
  while ((await redis.zcard(failed)) < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  await first.close();
  healthy = true;
  const answers = await Promise.all([receive('{"amount":43}'), receive('{"amount":43}')]);
  expect(answers.map(({ status }) => status)).toEqual([202, 202]);
  inbox.worker();
  await until(() => amounts.length > 0);
  expect([amounts, tries]).toEqual([[43], 4]);
  expect(await redis.zcard(failed)).toBe(0);
  await inbox.close();
});

test('does not wait for ever for a handler: its signal aborts, others have its place, and it is tried again', async () => {
  const handled: string[] = [];
  const reasons: unknown[] = [];
  const errors: unknown[] = [];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    backoffMs: 1,
    handleTimeoutMs: 50,
    handle: async ({ id }, signal) => {
      handled.push(id);
      if (id !== 'hangs' || handled.filter((other) => other === id).length > 1) return;
      signal.addEventListener('abort', () => reasons.push(signal.reason));
      await new Promise<never>(() => undefined);
    },
  });
  const receiver = receiverFor(inbox);
  for (const id of ['hangs', 'waits']) {
    await receiver.receive({ body, headers: signer.sign({ id, body }) });
  }
  const worker = inbox.worker({ concurrency: 1, onError: (error) => errors.push(error) });
  await until(() => handled.length === 3);
  expect(handled.filter((id) => id === 'hangs')).toHaveLength(2);
  expect(reasons).toMatchObject([{ code: 'ERR_WEBHOOKS_HANDLE_TIMEOUT' }]);
  // Neither does closing.
  await worker.close();
  await inbox.close();
  expect(errors).toEqual(reasons);
});

test('keeps what was given up for as long as it is told, and nothing that was processed', async () => {
  const given: string[] = [];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    attempts: 1,
    failedMs: 60_000,
    handle: ({ id }) => {
      given.push(id);
      if (id !== 'good') throw new Error('never');
    },
  });
  inbox.worker();
  const receive = async (id: string) =>
    await receiverFor(inbox).receive({ body, headers: signer.sign({ id, body }) });
  const failed = '{webhooks}:inbox:failed';
  for (const id of ['good', 'old']) await receive(id);
  while ((await redis.zcard(failed)) < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  const [job = ''] = await redis.zrange(failed, '0', '0');
  await redis.zincrby(failed, '-61000', job);
  await receive('new');
  while ((await redis.zrange(failed, '0', '-1')).includes(job))
    await new Promise((resolve) => setTimeout(resolve, 5));
  expect(given.sort()).toEqual(['good', 'new', 'old']);
  expect(await redis.zcard(failed)).toBe(1);
  expect(await redis.exists(`{webhooks}:inbox:${job}`)).toBe(0);
  await inbox.close();
});

test('is as documented, unless told otherwise', async () => {
  const delays: unknown[] = [];
  const timers = vi.spyOn(globalThis, 'setTimeout');
  const noted = (): void => {
    delays.push(...timers.mock.calls.map(([, delayMs]) => delayMs));
    timers.mockClear();
  };
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let [running, most] = [0, 0];
  const inbox = createInbox<{ amount: number }>({
    connection: redis,
    handle: async () => {
      running += 1;
      most = Math.max(most, running);
      await held;
      running -= 1;
    },
  });
  const receiver = receiverFor(inbox);
  for (let index = 0; index < 11; index += 1) {
    await receiver.receive({ body, headers: signer.sign({ id: String(index), body }) });
  }
  // How long Redis has to store a webhook.
  noted();
  expect(delays).toContain(5000);
  const id = Buffer.from('standard-webhooks:0').toString('base64url');
  const { opts = '{}' } = await redis.hgetall(`{webhooks}:inbox:${id}`);
  expect(JSON.parse(opts)).toMatchObject({
    attempts: 10,
    backoff: { type: 'exponential', delay: 1000, jitter: 0.5 },
    removeOnFail: { age: 30 * 86_400 },
  });
  inbox.worker();
  await until(() => running >= 10);
  expect(await redis.llen('{webhooks}:inbox:wait')).toBe(1);
  // How long a handler has.
  noted();
  timers.mockRestore();
  expect(delays).toContain(300_000);
  release();
  await until(async () =>
    (await redis.keys('{webhooks}:inbox:*')).every((key) => !key.includes(id)),
  );
  await inbox.close();
  expect(most).toBe(10);
});

test.each([
  [{ attempts: 0 }, 'attempts'],
  [{ backoffMs: Number.NaN }, 'backoffMs'],
  [{ failedMs: 0 }, 'failedMs'],
  [{ handleTimeoutMs: 0 }, 'handleTimeoutMs'],
  [{ timeoutMs: -1 }, 'timeoutMs'],
  [{ name: 'a:b' }, 'name'],
  [{ prefix: '' }, 'prefix'],
  [{ handle: undefined as never }, 'handle'],
])('builds no inbox with %j', (options, name) => {
  const build = () => createInbox({ connection: redis, handle: () => undefined, ...options });
  expect(build).toThrow(TypeError);
  expect(build).toThrow(name);
});

test('starts no worker with an option that there is not', async () => {
  const inbox = createInbox({ connection: redis, handle: () => undefined });
  const misspelt = { onErorr: () => undefined };
  expect(() => inbox.worker(misspelt as object)).toThrow('onErorr: there is no such option');
  await inbox.close();
});
