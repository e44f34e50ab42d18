import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { egressAgent } from '@countersign/egress';
import { testCertificate } from '@countersign/testkit/certificate';
import { respond, type Script } from '@countersign/testkit/scripted-server';
import { type ConnectionOptions, Queue, Worker } from 'bullmq';
import { describe, expect, test, vi } from 'vitest';
import {
  createWebhookQueue,
  defaultBreaker,
  type WebhookQueueOptions,
  type WorkerOptions,
} from '../src/bullmq.ts';
import {
  clientErrors,
  createEndpoints,
  createSigner,
  createVerifier,
  generateSecret,
  type Message,
  memoryEndpointStore,
  type SignedHeaders,
  timestampedHmac,
} from '../src/index.ts';
import { queueFixture, until } from './queue-fixture.ts';

const rig = queueFixture();
const numbered = (count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `evt_${index}`);

/** How many drain jobs of the only shard wait for a time to come. */
const resting = async (): Promise<number> => await rig.redis.zcard('webhooks:{0}:drain:delayed');

describe('createWebhookQueue', () => {
  test('fans an event out to the endpoints that want its type, signed for each', async () => {
    await rig.endpoint('all');
    await rig.endpoint('invoices', { types: ['invoice.*'] });
    await rig.endpoint('orders', { types: ['order.created'] });
    rig.queueWith().worker();
    const { id, endpoints: reached } = await rig.queue.publish({
      type: 'invoice.paid',
      payload: { amount: 42 },
    });
    expect([...reached].sort()).toEqual(['all', 'invoices']);
    await rig.queue.drained();
    expect(rig.server.requests.map(({ target }) => target).sort()).toEqual(['/all', '/invoices']);
    for (const { body, headers } of rig.server.requests) {
      expect(createVerifier({ secrets: rig.secret }).verify(body, headers).id).toBe(id);
    }
    expect(await rig.queue.stats()).toEqual({
      published: 2,
      delivered: 2,
      retried: 0,
      dead: 0,
      pending: 0,
    });
  });

  test('keeps no secret in Redis, and a payload once', async () => {
    await rig.endpoint('a');
    await rig.endpoint('b');
    await rig.queueWith().publish({ id: 'evt_1', payload: { marker: 'only-once' } });
    const dump: string[] = [];
    for (const key of await rig.redis.keys('*')) {
      dump.push(key, ((await rig.redis.dump(key)) ?? '').toString());
    }
    expect(dump.join('\n').split('only-once')).toHaveLength(2);
    expect(dump.join('\n')).not.toContain(rig.secret.slice(6));
    expect(dump.join('\n')).not.toContain(
      Buffer.from(rig.secret.slice(6), 'base64').toString('latin1'),
    );
  });

  test('encrypts payloads when it has keys', async () => {
    await rig.endpoint('a');
    rig.queueWith({ encryptionKeys: [Buffer.alloc(32, 1)] });
    await rig.queue.publish({ id: 'evt_1', payload: { marker: 'nobody-reads-this' } });
    const stored = await rig.redis.hgetBuffer('webhooks:payload:{evt_1}', 'd');
    expect(stored?.toString('latin1')).not.toContain('nobody-reads-this');
    rig.queue.worker();
    await rig.queue.drained();
    expect(rig.server.requests[0]?.body.toString()).toContain('nobody-reads-this');
  });

  test('reads payloads with an older key while the encryption key is rotated; what no key opens waits, and holds up nothing', async () => {
    const [older, newer] = [1, 2].map((byte) => Buffer.alloc(32, byte)) as [Buffer, Buffer];
    await rig.endpoint('a', { concurrency: 2 });
    const old = numbered(5);
    rig.queueWith({ shards: 1, encryptionKeys: [older] });
    for (const id of old) await rig.queue.publish({ id, payload: {} });
    await rig.queue.close();

    // Somebody took the old key away too early.
    rig.queueWith({ shards: 1, encryptionKeys: [newer] });
    for (const id of ['new_0', 'new_1']) await rig.queue.publish({ id, payload: {} });
    rig.queue.worker();
    await until(() => rig.server.requests.length === 2);
    await until(async () => (await resting()) === 1);
    expect(new Set(rig.idsSentTo('/a'))).toEqual(new Set(['new_0', 'new_1']));
    expect(await rig.queue.state('a')).toMatchObject({ status: 'active', pending: 5, dead: 0 });
    const deferred = (await rig.queue.attempts('a')).filter(({ event }) => old.includes(event));
    expect(deferred).toHaveLength(5);
    const [latest] = deferred;
    expect(latest).toMatchObject({ verdict: 'failed', error: 'ERR_WEBHOOKS_STORE_FAILED' });
    expect(latest?.startedAtMs).toBeGreaterThan(0);
    await rig.queue.close();

    rig.queueWith({ shards: 1, encryptionKeys: [newer, older] });
    await rig.pass(600_000);
    rig.queue.worker();
    await rig.queue.drained();
    expect(new Set(rig.idsSentTo('/a').slice(2))).toEqual(new Set(old));
    expect(rig.server.requests).toHaveLength(7);
  });

  test('climbs the ladder, then keeps a dead letter, and delivers it again on request', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(...[500, 500, 500].map((status) => respond({ status })));
    rig.queueWith().worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(3);
    const [letter] = await rig.queue.deadLetters();
    expect(letter).toMatchObject({ id: 'a:evt_1', attempts: 3, reason: 'exhausted' });
    expect(await rig.queue.attempts('a')).toMatchObject([
      { event: 'evt_1', attempt: 3, verdict: 'failed', status: 500 },
      { attempt: 2 },
      { attempt: 1 },
    ]);
    await rig.queue.redeliver('a:evt_1');
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(4);
    expect(await rig.queue.deadLetters()).toEqual([]);
    await expect(rig.queue.redeliver('a:evt_unknown')).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_DELIVERY_UNKNOWN',
    });
  });

  test.each([
    [
      'throws',
      () => {
        throw new Error('broken');
      },
    ],
    ['returns what is no wait', () => Number.NaN],
  ])(
    'gives a delivery up when its schedule %s, instead of attempting it for ever',
    async (_, broken) => {
      await rig.endpoint('a');
      rig.server.enqueue(respond({ status: 500 }));
      rig.queueWith({ schedule: broken }).worker();
      await rig.queue.publish({ id: 'evt_1', payload: {} });
      await rig.queue.drained();
      expect(rig.server.requests).toHaveLength(1);
      expect(await rig.queue.deadLetters()).toMatchObject([
        { attempts: 1, reason: 'schedule-failed' },
      ]);
    },
  );

  test('loses nothing when Redis is full in the middle of it', async () => {
    let full = false;
    await rig.serve({
      otherwise: {
        at: 'request',
        run: async ({ write }) => {
          if (!full) await rig.redis.config('SET', 'maxmemory', '1');
          full = true;
          await write('HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n');
        },
      },
    });
    await rig.endpoint('a', { concurrency: 1 });
    rig.queueWith({ shards: 1, schedule: [0] });
    for (const id of numbered(3)) await rig.queue.publish({ id, payload: {} });
    const errors: Error[] = [];
    rig.queue.worker({ onError: (error) => errors.push(error) });
    await until(() => full);
    await expect(rig.queue.publish({ payload: {} })).rejects.toThrow('OOM');
    expect(await rig.queue.state('a')).toMatchObject({ pending: 3, dead: 0 });
    await rig.redis.config('SET', 'maxmemory', '0');
    await rig.queue.drained();
    const letters = (await rig.queue.deadLetters()).map(({ event }) => event);
    expect(letters).toEqual(numbered(3));
    expect(await rig.queue.stats()).toMatchObject({ published: 3, dead: 3, pending: 0 });
  });

  test('asks for an endpoint that went in the middle of it once, not again and again', async () => {
    await rig.endpoint('a', { concurrency: 1 });
    rig.queueWith({ shards: 1 });
    for (const id of numbered(3)) await rig.queue.publish({ id, payload: {} });
    let asked = 0;
    const { get } = rig.endpoints;
    rig.endpoints.get = async (id) => {
      asked += 1;
      // The job begins, makes its first delivery, and then it is not there any more.
      if (asked > 2) await rig.endpoints.delete('a');
      return await get(id);
    };
    rig.queue.worker();
    await until(async () => (await resting()) === 1);
    expect(asked).toBeLessThanOrEqual(4);
    expect(await rig.queue.state('a')).toMatchObject({ pending: 2, dead: 0 });
    await rig.queue.drained();
    expect(await rig.queue.stats()).toMatchObject({ delivered: 1, dead: 2 });
  });

  test('does not burn the ladder on what our own rules refuse', async () => {
    await rig.endpoint('a', { url: 'http://10.0.0.1/' });
    rig.queueWith().worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    expect(await rig.queue.deadLetters()).toMatchObject([
      { attempts: 1, reason: 'ERR_EGRESS_DENIED' },
    ]);
  });

  test('publishes an event once, however often it is told to, and completes a fan-out that was cut off', async () => {
    await rig.endpoint('a');
    rig.queueWith().worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    await rig.endpoint('b');
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    expect(rig.server.requests.map(({ target }) => target)).toEqual(['/a', '/b']);
  });

  test('delivers again what was published since a time', async () => {
    await rig.endpoint('a');
    rig.queueWith().worker();
    for (const id of ['evt_1', 'evt_2', 'evt_3']) await rig.queue.publish({ id, payload: {} });
    await rig.queue.drained();
    expect(await rig.queue.redeliverSince('a', 0)).toBe(3);
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toHaveLength(6);
  });

  test('keeps the order of publishing for a FIFO endpoint, failures included', async () => {
    await rig.endpoint('a', { fifo: true });
    rig.queueWith();
    const ids = Array.from({ length: 30 }, (_, index) => `evt_${index}`);
    for (const id of ids) await rig.queue.publish({ id, payload: {} });
    rig.server.enqueue(respond(), respond({ status: 500 }), respond({ status: 500 }));
    rig.queue.worker();
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_0', 'evt_1', 'evt_1', ...ids.slice(1)]);
  });

  test('never makes more attempts at a time than the endpoint may have', async () => {
    let [open, most] = [0, 0];
    await rig.serve({
      otherwise: {
        at: 'request',
        run: async ({ write }) => {
          open += 1;
          most = Math.max(most, open);
          await new Promise((resolve) => setTimeout(resolve, 5));
          open -= 1;
          await write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
        },
      },
    });
    await rig.endpoint('a', { concurrency: 3 });
    rig.queueWith();
    await Promise.all(Array.from({ length: 30 }, () => rig.queue.publish({ payload: {} })));
    rig.queue.worker();
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(30);
    expect(most).toBe(3);
  });

  test('spaces attempts at an endpoint with a rate', async () => {
    await rig.endpoint('a', { maxPerSecond: 0.001 });
    rig.queueWith({ shards: 1 });
    for (let index = 0; index < 3; index += 1) await rig.queue.publish({ payload: {} });
    rig.queue.worker();
    for (const sent of [1, 2, 3]) {
      await until(async () => (await rig.queue.stats()).delivered === sent);
      if (sent < 3) await until(async () => (await resting()) === 1);
      expect(rig.server.requests).toHaveLength(sent);
      await rig.pass(1_000_000);
    }
  });

  test('obeys Retry-After for the whole endpoint', async () => {
    await rig.endpoint('a', { concurrency: 1 });
    rig.server.enqueue(respond({ status: 429, headers: { 'retry-after': '3600' } }));
    rig.queueWith({ shards: 1 });
    for (const id of ['evt_1', 'evt_2']) await rig.queue.publish({ id, payload: {} });
    rig.queue.worker();
    await until(async () => (await resting()) === 1);
    await rig.pass(3_500_000);
    expect(rig.server.requests).toHaveLength(1);
    await rig.pass(100_000);
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(3);
  });

  test('obeys Retry-After although the delivery that was told it has no more attempts', async () => {
    await rig.endpoint('a', { concurrency: 1 });
    rig.server.enqueue(respond({ status: 429, headers: { 'retry-after': '3600' } }));
    rig.queueWith({ shards: 1, schedule: [0] });
    for (const id of ['evt_1', 'evt_2']) await rig.queue.publish({ id, payload: {} });
    rig.queue.worker();
    await until(async () => (await resting()) === 1 || (await rig.queue.stats()).pending === 0);
    expect(await rig.queue.stats()).toMatchObject({ dead: 1, pending: 1 });
    expect(rig.server.requests).toHaveLength(1);
    await rig.pass(3_600_000);
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(2);
  });

  test('takes a long Retry-After for as much as it may be', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(respond({ status: 503, headers: { 'retry-after': '3600' } }));
    rig.queueWith({ shards: 1, maxRetryAfterMs: 60_000 }).worker();
    await rig.queue.publish({ payload: {} });
    await until(async () => (await rig.queue.stats()).retried === 1);
    const penalty = Number(await rig.redis.hget('webhooks:{0}:state:a', 'penalty'));
    expect(penalty - Date.now()).toBeGreaterThan(50_000);
    expect(penalty - Date.now()).toBeLessThanOrEqual(60_000);
  });

  test('leaves an attempt to its worker for longer than it may take', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    rig.server.enqueue({
      at: 'request',
      run: async ({ write }) => {
        await held;
        await write('HTTP/1.1 204 No Content\r\n\r\n');
      },
    });
    await rig.endpoint('a');
    rig.queueWith({ shards: 1, attemptTimeoutMs: 300_000 }).worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(() => rig.server.requests.length === 1);
    const comesBackAtMs = Number(await rig.redis.zscore('webhooks:{0}:due:a', 'evt_1'));
    expect(comesBackAtMs - Date.now()).toBeGreaterThan(300_000);
    const [lock = ''] = await rig.redis.keys('webhooks:{0}:drain:a.*:lock');
    expect(await rig.redis.pttl(lock)).toBeGreaterThan(300_000);
    release();
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(1);
  });

  test('delivers to others while an endpoint hangs, however much waits for it', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const hanging: Script = {
      at: 'request',
      run: async ({ write }) => {
        await held;
        await write('HTTP/1.1 204 No Content\r\n\r\n');
      },
    };
    await rig.serve({ otherwise: ({ target }) => (target === '/hangs' ? hanging : respond()) });
    await rig.endpoint('hangs', { types: ['hangs'] });
    for (const id of ['b', 'c', 'd']) await rig.endpoint(id, { types: ['well'] });
    rig.queueWith({ shards: 1, attemptTimeoutMs: 300_000 });
    for (let index = 0; index < 50; index += 1) {
      await rig.queue.publish({ type: 'hangs', payload: {} });
    }
    rig.queue.worker({ concurrency: 2 });
    await until(() => rig.server.requests.length === 10);
    for (const id of numbered(20)) await rig.queue.publish({ id, type: 'well', payload: {} });
    await until(async () => (await rig.queue.stats()).delivered === 60);
    expect(await rig.queue.state('hangs')).toMatchObject({ pending: 50 });
    // As many at a time as it may have, unless told otherwise.
    expect(rig.idsSentTo('/hangs')).toHaveLength(10);
    release();
    await rig.queue.drained();
  });

  test('delivers at once what worker after worker died of, however many', async () => {
    await rig.endpoint('a');
    rig.queueWith({ shards: 1 });
    await rig.queue.publish({ payload: {} });
    const prefix = 'webhooks:{0}';
    const dead = new Worker('drain', undefined, {
      connection: rig.redis as unknown as ConnectionOptions,
      prefix,
      autorun: false,
    });
    const { id = '' } = (await dead.getNextJob('of somebody dead')) ?? {};
    await dead.close();
    // As BullMQ finds it: in process, its lock is over, and it was so before.
    await rig.redis.del(`${prefix}:drain:${id}:lock`);
    await rig.redis.sadd(`${prefix}:drain:stalled`, id);
    await rig.redis.hset(`${prefix}:drain:${id}`, 'stc', '50');
    rig.queue.worker();
    await rig.queue.drained(AbortSignal.timeout(5000));
    expect(rig.server.requests).toHaveLength(1);
  });

  test('remembers no attempts of what was delivered', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(respond({ status: 500 }), respond({ status: 500 }));
    rig.queueWith({ historyMs: 0 }).worker();
    for (const id of numbered(3)) await rig.queue.publish({ id, payload: {} });
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(5);
    expect(await rig.redis.keys('*:tries:*')).toEqual([]);
  });

  test('keeps Retry-After although another attempt succeeds meanwhile', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    await rig.endpoint('a', { concurrency: 2 });
    rig.server.enqueue(
      {
        at: 'request',
        run: async (exchange) => {
          await held;
          await exchange.write('HTTP/1.1 204 No Content\r\n\r\n');
        },
      },
      respond({ status: 429, headers: { 'retry-after': '3600' } }),
    );
    rig.queueWith({ shards: 1 });
    for (const id of ['evt_1', 'evt_2']) await rig.queue.publish({ id, payload: {} });
    rig.queue.worker();
    await until(async () => (await rig.queue.stats()).retried === 1);
    release();
    await until(async () => (await rig.queue.stats()).delivered === 1);
    await rig.queue.publish({ id: 'evt_3', payload: {} });
    const comesAtMs = Number(await rig.redis.zscore('webhooks:{0}:wakes', 'a'));
    expect(comesAtMs - Date.now()).toBeGreaterThan(3_500_000);
    expect(rig.server.requests).toHaveLength(2);
  });

  test('disables an endpoint whose every answer is a permanent refusal, and keeps what comes then', async () => {
    await rig.serve({ otherwise: () => respond({ status: 404 }) });
    await rig.endpoint('a', { concurrency: 1 });
    const breaker = { failures: 3, disableAfterMs: 0 };
    rig.queueWith({ isPermanent: clientErrors, breaker }).worker();
    for (let index = 0; index < 5; index += 1) await rig.queue.publish({ payload: {} });
    await until(async () => (await rig.queue.state('a')).status === 'disabled');
    expect(await rig.queue.state('a')).toMatchObject({ pending: 2, dead: 3 });
    expect(rig.server.requests).toHaveLength(3);
  });

  test('does not hold a payload that ran out against the endpoint', async () => {
    await rig.endpoint('a');
    rig.queueWith({ breaker: { failures: 1, disableAfterMs: 0 } });
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.redis.del('webhooks:payload:{evt_1}');
    rig.queue.worker();
    await rig.queue.drained();
    expect(await rig.queue.state('a')).toMatchObject({ status: 'active', dead: 1 });
  });

  test('pages through the dead letters of all endpoints as through one list', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    for (const id of ['c', 'a', 'b']) await rig.endpoint(id, { types: [id] });
    rig.queueWith({ schedule: [0] }).worker();
    for (const type of ['a', 'b', 'c']) {
      for (let index = 0; index < 3; index += 1) {
        await rig.queue.publish({ id: `${type}_${index}`, type, payload: {} });
        await rig.queue.drained();
      }
    }
    const all = (await rig.queue.deadLetters()).map(({ event }) => event);
    expect(all).toEqual(
      ['a', 'b', 'c'].flatMap((id) => [0, 1, 2].map((index) => `${id}_${index}`)),
    );
    for (const limit of [1, 2, 4, 9]) {
      const paged: string[] = [];
      for (let offset = 0; offset < 12; offset += limit) {
        paged.push(...(await rig.queue.deadLetters({ offset, limit })).map(({ event }) => event));
      }
      expect(paged).toEqual(all);
    }
    const ofB = await rig.queue.deadLetters({ endpoint: 'b', offset: 1, limit: 1 });
    expect(ofB.map(({ event }) => event)).toEqual(['b_1']);
    await expect(rig.queue.deadLetters({ offset: -1 })).rejects.toThrow(TypeError);
    await expect(rig.queue.deadLetters({ limit: 10_001 })).rejects.toThrow(TypeError);
  });

  test('removes dead letters when they are old, and leaves nothing of them', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a');
    rig.queueWith({ schedule: [0], deadLetterMs: 60_000 }).worker();
    for (const id of ['evt_1', 'evt_2']) await rig.queue.publish({ id, payload: {} });
    await rig.queue.drained();
    const [dead = ''] = await rig.redis.keys('*:dead:a');
    const reasons = dead.replace(':dead:', ':reasons:');
    for (const key of [dead, reasons]) {
      expect(await rig.redis.pttl(key)).toBeGreaterThan(0);
      expect(await rig.redis.pttl(key)).toBeLessThanOrEqual(60_000);
    }
    await rig.redis.zincrby(dead, String(-60_001), 'evt_1');
    expect((await rig.queue.state('a')).dead).toBe(1);
    expect((await rig.queue.deadLetters()).map(({ event }) => event)).toEqual(['evt_2']);
    await rig.redis.zincrby(dead, String(-60_001), 'evt_2');
    await rig.queue.publish({ id: 'evt_3', payload: {} });
    await rig.queue.drained();
    expect(await rig.redis.zrange(dead, '0', '-1')).toEqual(['evt_3']);
    expect(await rig.redis.hkeys(reasons)).toEqual(['evt_3']);
    expect(await rig.redis.keys('*:tries:a')).toEqual([]);
  });

  test('says so when it is told of an endpoint that there is not, or of a number that is none', async () => {
    await rig.endpoint('a');
    rig.queueWith().worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    const unknown = { code: 'ERR_WEBHOOKS_ENDPOINT_UNKNOWN' };
    await expect(rig.queue.redeliver('b:evt_1')).rejects.toMatchObject(unknown);
    await expect(rig.queue.redeliverSince('b', 0)).rejects.toMatchObject(unknown);
    await expect(rig.queue.pause('b')).rejects.toMatchObject(unknown);
    await expect(rig.queue.resume('b')).rejects.toMatchObject(unknown);
    for (const limit of [0, -1, Number.NaN, 10_001]) {
      await expect(rig.queue.attempts('a', limit)).rejects.toThrow(TypeError);
    }
    await expect(rig.queue.redeliverSince('a', Number.NaN)).rejects.toThrow(TypeError);
    expect(await rig.queue.stats()).toMatchObject({ published: 1, pending: 0 });
    expect(await rig.redis.hget('webhooks:payload:{evt_1}', 'n')).toBe('0');
  });

  test('delivers again in the order of publishing to a FIFO endpoint, although it was in one millisecond', async () => {
    await rig.endpoint('a', { fifo: true });
    rig.queueWith().worker();
    const ids = numbered(300);
    await Promise.all(ids.map((id) => rig.queue.publish({ id, payload: {} })));
    await rig.queue.drained();
    const order = rig.idsSentTo('/a');
    await rig.queue.pause('a');
    expect(await rig.queue.redeliverSince('a', 0)).toBe(300);
    await rig.queue.resume('a');
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual([...order, ...order]);
  });

  test('delivers dead letters again in the order of their deaths, although they died in one millisecond', async () => {
    await rig.endpoint('a', { fifo: true });
    rig.queueWith({ historyMs: 0, retentionMs: 60_000 });
    const ids = numbered(300);
    for (const id of ids) await rig.queue.publish({ id, payload: {} });
    // The times of a FIFO endpoint's deliveries may be a little ahead.
    await rig.pass(120_000);
    rig.queue.worker();
    await rig.queue.drained();
    expect((await rig.queue.deadLetters({ limit: 1000 })).map(({ event }) => event)).toEqual(ids);
    expect(await rig.queue.redeliverSince('a', 0)).toBe(300);
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(ids);
  });

  test('delivers all again that was published since, however much it is', async () => {
    await rig.endpoint('a', { concurrency: 100 });
    rig.queueWith({ shards: 1 });
    const since = Date.now() - 60_000;
    const key = 'webhooks:{0}:history:a';
    await rig.queue.publish({ id: 'evt_0', payload: {} });
    const stored = await rig.redis.hgetBuffer('webhooks:payload:{evt_0}', 'd');
    // More of one millisecond than a page holds, and more pages than one.
    const pipeline = rig.redis.pipeline();
    for (let index = 1; index < 4000; index += 1) {
      pipeline.hset(`webhooks:payload:{evt_${index}}`, 'd', stored ?? '', 'n', '0');
      pipeline.zadd(key, String(index < 2500 ? since + 5 : since + index), `evt_${index}`);
    }
    await pipeline.exec();
    expect(await rig.queue.redeliverSince('a', since + 6)).toBe(1500);
    expect(await rig.queue.redeliverSince('a', since)).toBe(2499);
    expect(await rig.queue.state('a')).toMatchObject({ pending: 4000 });
  });

  test('keeps everything for as long as is documented, unless told otherwise', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a');
    const { connection, endpoints, egress } = {
      connection: rig.redis,
      endpoints: rig.endpoints,
      egress: rig.agent,
    };
    rig.queueWith();
    const queue = createWebhookQueue({ connection, endpoints, egress, schedule: [0] });
    queue.worker();
    await queue.publish({ id: 'evt_1', payload: {} });
    await queue.drained();
    await queue.close();
    expect(await rig.redis.get('webhooks:shards')).toBe('4');
    const day = 86_400_000;
    const lives = Object.entries({
      'payload:{evt_1}': 60,
      '{*}:history:a': 1,
      '{*}:dead:a': 30,
      '{*}:log:a': 3,
    });
    for (const [pattern, days] of lives) {
      const [key = ''] = await rig.redis.keys(`webhooks:${pattern}`);
      const left = await rig.redis.pttl(key);
      expect([pattern, Math.ceil(left / day)]).toEqual([pattern, days]);
      expect(days * day - left).toBeLessThan(day / 2);
    }
    expect(defaultBreaker).toEqual({
      failures: 5,
      cooldownMs: 5000,
      maxCooldownMs: 600_000,
      disableAfterMs: 5 * day,
      probeEveryMs: 3_600_000,
    });
  });

  test.each([
    ['100 entries', 100, { logEntries: 100 }],
    ['1,000 entries, unless told otherwise,', 1000, {}],
  ])(
    'keeps %s of the attempt log, and no more than Redis keeps together',
    async (_, entries, options) => {
      await rig.endpoint('a');
      const pipeline = rig.redis.pipeline();
      for (let index = 0; index < 1500; index += 1) {
        pipeline.xadd('webhooks:{0}:log:a', '*', 'e', 'evt_0', 'l', '{}');
      }
      await pipeline.exec();
      rig.queueWith({ shards: 1, ...options }).worker();
      await rig.queue.publish({ id: 'evt_1', payload: {} });
      await rig.queue.drained();
      const kept = await rig.queue.attempts('a', 10_000);
      expect(kept[0]).toMatchObject({ event: 'evt_1', verdict: 'delivered' });
      expect(kept.length).toBeGreaterThanOrEqual(entries);
      // A node of a stream.
      expect(kept.length).toBeLessThan(entries + 100);
    },
  );

  test.each([
    ['100 ms when it is told so', 100, { sliceMs: 100 }],
    ['five seconds, unless told otherwise', 5000, {}],
  ])('lets others have the place of an endpoint after %s', async (_, sliceMs, options) => {
    vi.useFakeTimers({ toFake: ['performance'] });
    try {
      let passes = 0;
      await rig.serve({
        otherwise: () => {
          vi.advanceTimersByTime(passes);
          return respond({ status: 200 });
        },
      });
      await rig.endpoint('long', { types: ['long'], concurrency: 1 });
      await rig.endpoint('short', { types: ['short'] });
      const inTurn = async (): Promise<readonly string[]> => {
        const before = rig.server.requests.length;
        await rig.queue.pause();
        for (const type of ['long', 'long', 'short'])
          await rig.queue.publish({ type, payload: {} });
        await rig.queue.resume();
        await rig.queue.drained();
        return rig.server.requests.slice(before).map(({ target }) => target);
      };
      rig.queueWith({ shards: 1 }).worker({ concurrency: 1, ...options });
      passes = sliceMs - 1;
      expect(await inTurn()).toEqual(['/long', '/long', '/short']);
      passes = sliceMs;
      expect(await inTurn()).toEqual(['/long', '/short', '/long']);
    } finally {
      vi.useRealTimers();
    }
  });

  test.each([
    [20_000, { sweepMs: 20_000 }],
    [30_000, {}],
  ])('looks for endpoints that nobody came for every %d ms, given %j', async (everyMs, options) => {
    await rig.endpoint('a');
    rig.queueWith();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    for (const key of await rig.redis.keys('*:drain:*')) await rig.redis.del(key);
    const intervals = vi.spyOn(globalThis, 'setInterval');
    rig.queue.worker(options);
    const [look] = intervals.mock.calls.find(([, delayMs]) => delayMs === everyMs) ?? [];
    intervals.mockRestore();
    // Only now is it a while ago that somebody should have come.
    for (const key of await rig.redis.keys('*:wakes')) await rig.redis.zincrby(key, -60_000, 'a');
    expect(look).toBeDefined();
    look?.();
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_1']);
  });

  test.each([
    [{ breaker: { failures: 0 } }, 'breaker.failures'],
    [{ breaker: { cooldownMs: Number.NaN } }, 'breaker.cooldownMs'],
    [{ breaker: { cooldownMs: 10_000, maxCooldownMs: 9999 } }, 'breaker.maxCooldownMs'],
    [{ breaker: { disableAfterMs: -1 } }, 'breaker.disableAfterMs'],
    [{ breaker: { probeEveryMs: 0 } }, 'breaker.probeEveryMs'],
    [{ retentionMs: 0 }, 'retentionMs'],
    [{ attemptTimeoutMs: 1000.5 }, 'attemptTimeoutMs'],
    [{ maxResponseBytes: -1 }, 'maxResponseBytes'],
    [{ excerptBytes: 65_537 }, 'excerptBytes'],
    [{ historyMs: -1 }, 'historyMs'],
    [{ deadLetterMs: Number.POSITIVE_INFINITY }, 'deadLetterMs'],
    [{ logEntries: 0 }, 'logEntries'],
    [{ logMs: 0.5 }, 'logMs'],
    [{ endpointCacheMs: -1 }, 'endpointCacheMs'],
    [{ maxRetryAfterMs: Number.NaN }, 'maxRetryAfterMs'],
    [{ timeoutMs: 0 }, 'timeoutMs'],
    [{ shards: 0 }, 'shards'],
    [{ prefix: 'a{b}' }, 'prefix'],
    // What manages endpoints is not where they are stored.
    [{ endpoints: createEndpoints({ store: memoryEndpointStore() }) as never }, 'endpoints'],
  ])('refuses %j when it is built', (options, name) => {
    rig.queueWith();
    expect(() =>
      createWebhookQueue({ connection: rig.redis, endpoints: rig.endpoints, ...options }),
    ).toThrow(TypeError);
    expect(() =>
      createWebhookQueue({ connection: rig.redis, endpoints: rig.endpoints, ...options }),
    ).toThrow(name);
  });

  test.each([
    [{ concurrency: 0 }, 'concurrency'],
    [{ sliceMs: 0 }, 'sliceMs'],
    [{ sweepMs: Number.NaN }, 'sweepMs'],
    [{ shards: [] }, 'shards'],
    [{ shards: [2] }, 'shards'],
    [{ shards: [0, 0] }, 'shards'],
    [{ shard: 0 } as WorkerOptions, 'shard: there is no such option'],
  ])('starts no worker with %j', (options, name) => {
    expect(() => rig.queueWith().worker(options)).toThrow(TypeError);
    expect(() => rig.queue.worker(options)).toThrow(name);
  });

  test('disables an endpoint that answers 410, keeps its deliveries, and sends them when it is resumed', async () => {
    await rig.endpoint('a', { concurrency: 1 });
    rig.server.enqueue(respond({ status: 410 }));
    rig.queueWith().worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(async () => (await rig.queue.state('a')).status === 'disabled');
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    expect(await rig.queue.state('a')).toMatchObject({ pending: 2, reason: 'gone' });
    expect(rig.server.requests).toHaveLength(1);
    await rig.queue.resume('a');
    await rig.queue.drained();
    expect(new Set(rig.idsSentTo('/a').slice(1))).toEqual(new Set(['evt_1', 'evt_2']));
    expect(rig.idsSentTo('/a')).toHaveLength(3);
  });

  test('probes a failing endpoint instead of burning the ladders of all its deliveries', async () => {
    let healthy = false;
    let [open, most] = [0, 0];
    await rig.serve({
      otherwise: {
        at: 'request',
        run: async (exchange) => {
          open += 1;
          most = Math.max(most, open);
          await new Promise((resolve) => setTimeout(resolve, 5));
          open -= 1;
          const status = healthy ? '200 OK' : '500 Internal Server Error';
          await exchange.write(`HTTP/1.1 ${status}\r\ncontent-length: 0\r\n\r\n`);
        },
      },
    });
    await rig.endpoint('a', { concurrency: 10 });
    const pauses = { cooldownMs: 50, maxCooldownMs: 50, disableAfterMs: 1e9, probeEveryMs: 50 };
    rig.queueWith({
      schedule: Array.from({ length: 50 }, () => 0),
      breaker: { failures: 4, ...pauses },
    });
    await Promise.all(Array.from({ length: 200 }, () => rig.queue.publish({ payload: {} })));
    rig.queue.worker();
    const retried = async (count: number) =>
      await until(async () => (await rig.queue.stats()).retried >= count);
    // The first burst is over after at most 4 + 10 failures; then come probes, one at a time.
    await retried(15);
    most = 0;
    await retried(20);
    expect(most).toBe(1);
    healthy = true;
    await rig.queue.drained();
    expect(await rig.queue.stats()).toMatchObject({ delivered: 200, dead: 0 });
  });

  test('waits no longer for its first probe because many attempts failed at once', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let open = 0;
    await rig.serve({
      otherwise: {
        at: 'request',
        run: async ({ write }) => {
          open += 1;
          await held;
          await write('HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n');
        },
      },
    });
    await rig.endpoint('a', { concurrency: 20 });
    rig.queueWith({ shards: 1, schedule: [0, 0, 0], breaker: { cooldownMs: 60_000 } });
    for (let index = 0; index < 20; index += 1) await rig.queue.publish({ payload: {} });
    rig.queue.worker();
    await until(() => open === 20);
    release();
    await until(async () => (await rig.queue.stats()).retried === 20);
    const probeAtMs = async (): Promise<number> =>
      Number(await rig.redis.zscore('webhooks:{0}:wakes', 'a')) - Date.now();
    await until(async () => (await resting()) === 1);
    expect(await probeAtMs()).toBeGreaterThan(50_000);
    expect(await probeAtMs()).toBeLessThanOrEqual(60_000);
    // Each probe that fails doubles the wait for the next.
    await rig.redis.hset('webhooks:{0}:state:a', 'notBefore', '0');
    await rig.queue.publish({ payload: {} });
    await until(async () => (await rig.queue.stats()).retried === 21);
    await until(async () => (await resting()) === 1);
    expect(await probeAtMs()).toBeGreaterThan(110_000);
    expect(await probeAtMs()).toBeLessThanOrEqual(120_000);
  });

  test('counts the last attempt of a ladder as a failure of the endpoint, too', async () => {
    await rig.serve({ otherwise: () => respond({ status: 500 }) });
    await rig.endpoint('a');
    rig.queueWith({ schedule: [0], breaker: { failures: 2, disableAfterMs: 0 } }).worker();
    await rig.queue.publish({ payload: {} });
    await rig.queue.drained();
    expect((await rig.queue.state('a')).status).toBe('failing');
    await rig.queue.publish({ payload: {} });
    await rig.queue.drained();
    expect((await rig.queue.state('a')).status).toBe('disabled');
  });

  test('disables an endpoint that failed for long, probes it, and enables it when it is well', async () => {
    let healthy = false;
    await rig.serve({
      otherwise: () => respond({ status: healthy ? 200 : 500 }),
    });
    await rig.endpoint('a');
    rig.queueWith({
      schedule: Array.from({ length: 500 }, () => 0),
      breaker: {
        failures: 1,
        cooldownMs: 5,
        maxCooldownMs: 5,
        disableAfterMs: 50,
        probeEveryMs: 20,
      },
    });
    rig.queue.worker();
    await rig.queue.publish({ payload: {} });
    await until(async () => (await rig.queue.state('a')).status === 'disabled');
    healthy = true;
    await rig.queue.drained();
    expect((await rig.queue.state('a')).status).toBe('active');
  });

  test('pauses one endpoint, or all', async () => {
    await rig.endpoint('a');
    await rig.endpoint('b');
    rig.queueWith().worker();
    await rig.queue.pause('a');
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(() => rig.server.requests.length === 1);
    expect(await rig.queue.state('a')).toMatchObject({ status: 'paused', pending: 1 });
    await rig.queue.resume('a');
    await rig.queue.drained();
    await rig.queue.pause();
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    expect((await rig.queue.stats()).pending).toBe(2);
    await rig.queue.resume();
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(4);
  });

  test('wakes up for a new event while it waits for the retry of another', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(respond({ status: 500 }));
    rig.queueWith({ schedule: [0, 1_000_000] }).worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(() => rig.server.requests.length === 1);
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    await until(() => rig.server.requests.length === 2);
    expect(rig.idsSentTo('/a')).toEqual(['evt_1', 'evt_2']);
  });

  test('keeps one wake-up for an endpoint that waits for a retry, however often it is woken for new events', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(respond({ status: 500 }));
    rig.queueWith({ schedule: [0, 86_400_000], shards: 1 }).worker();
    await rig.queue.publish({ payload: 'waits' });
    await until(async () => (await rig.queue.stats()).retried === 1);
    for (let sent = 1; sent <= 50; sent += 1) {
      await rig.queue.publish({ payload: sent });
      // At once, so that some come just when the job before lies down to rest.
      await until(async () => (await rig.queue.stats()).delivered === sent);
    }
    await until(async () => (await rig.redis.llen('webhooks:{0}:drain:active')) === 0);
    await until(async () => (await rig.redis.zcard('webhooks:{0}:drain:delayed')) <= 1);
    expect(await rig.redis.zcard('webhooks:{0}:drain:delayed')).toBe(1);
    expect((await rig.queue.state('a')).pending).toBe(1);
  });

  test('is not disturbed by a drain job that a crash left behind when another took over', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const hang: Script = {
      at: 'request',
      run: async ({ write }) => {
        await held;
        await write('HTTP/1.1 204 No Content\r\n\r\n');
      },
    };
    await rig.endpoint('a', { concurrency: 1 });
    rig.server.enqueue(respond({ status: 500 }), hang);
    rig.queueWith({ shards: 1, schedule: [0, 86_400_000] }).worker();
    const ledger = async (): Promise<string> => {
      const keys = (await rig.redis.keys('webhooks:{0}:*:a')).sort();
      const dumps = keys.map(async (key) => [key, await rig.redis.dumpBuffer(key)]);
      const wakes = await rig.redis.zrange('webhooks:{0}:wakes', '0', '-1', 'WITHSCORES');
      return JSON.stringify([await Promise.all(dumps), wakes]);
    };
    const connection = rig.redis as unknown as ConnectionOptions;
    const jobs = new Queue('drain', { connection, prefix: 'webhooks:{0}' });
    const leaveBehind = async (seq: number): Promise<void> => {
      const job = await jobs.add(
        'drain',
        { endpoint: 'a', seq },
        { jobId: `a.${seq}`, delay: 1e9 },
      );
      await job.promote();
      // Its turn came and went.
      await until(async () => (await jobs.getJob(`a.${seq}`)) === undefined);
    };

    // While the job that took over rests.
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(async () => (await jobs.getDelayedCount()) === 1);
    const seq = Number(await rig.redis.hget('webhooks:{0}:state:a', 'seq'));
    const resting = await ledger();
    await leaveBehind(seq - 1);
    expect(await ledger()).toBe(resting);
    expect(await jobs.getDelayedCount()).toBe(1);

    // While it works: what waits behind the only attempt that the endpoint may have is not for the other to make.
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    await until(() => rig.server.requests.length === 2);
    await rig.queue.publish({ id: 'evt_3', payload: {} });
    const working = await ledger();
    await leaveBehind(seq);
    expect(await ledger()).toBe(working);
    expect(rig.server.requests).toHaveLength(2);
    release();
    await until(async () => (await rig.queue.stats()).delivered === 2);
    expect(rig.server.requests).toHaveLength(3);
    await jobs.close();
  });

  test.each([-60_000, 60_000])(
    'rests for as long as it should on a machine whose clock is %d ms off',
    async (offMs) => {
      const real = Date.now;
      const clock = vi.spyOn(Date, 'now').mockImplementation(() => real() + offMs);
      await rig.endpoint('a');
      rig.server.enqueue(respond({ status: 500 }));
      rig.queueWith({ shards: 1, schedule: [0, 30_000] }).worker();
      await rig.queue.publish({ payload: {} });
      await until(async () => (await resting()) === 1);
      const [, score] = await rig.redis.zrange(
        'webhooks:{0}:drain:delayed',
        '0',
        '0',
        'WITHSCORES',
      );
      const restMs = Number(score) / 4096 - Date.now();
      expect(restMs).toBeGreaterThan(25_000);
      expect(restMs).toBeLessThanOrEqual(30_000);
      clock.mockRestore();
    },
  );

  test('sends what is published under an id that was used before and is forgotten', async () => {
    await rig.endpoint('a');
    rig.queueWith({ historyMs: 0 }).worker();
    for (const day of ['monday', 'tuesday']) {
      await rig.queue.publish({ id: 'daily-report', payload: day });
      await rig.queue.drained();
      await until(async () => (await rig.redis.keys('webhooks:payload:*')).length === 0);
    }
    expect(rig.server.requests.map(({ body }) => body.toString())).toEqual([
      '"monday"',
      '"tuesday"',
    ]);
  });

  test.each([
    ['of the history', 200],
    ['of dead letters', 500],
  ])('takes an id for a new event as soon as the time %s is over', async (_, status) => {
    await rig.serve({ otherwise: () => respond({ status }) });
    await rig.endpoint('a');
    const keptMs = 60_000;
    rig.queueWith({ schedule: [0], historyMs: keptMs, deadLetterMs: keptMs }).worker();
    const publish = async (id: string): Promise<void> => {
      await rig.queue.publish({ id, payload: {} });
      await rig.queue.drained();
    };
    await publish('evt_1');
    await rig.pass(keptMs / 2);
    // What is remembered of the endpoint lives on, but not the event.
    await publish('evt_2');
    await rig.pass(keptMs / 2);
    await publish('evt_1');
    expect(rig.idsSentTo('/a')).toEqual(['evt_1', 'evt_2', 'evt_1']);
  });

  test.each([
    ['before it is attempted', false],
    ['and its delivery was given up for that', true],
  ])(
    'delivers what is published again because its payload was lost %s, and needs it once',
    async (_, attempted) => {
      await rig.endpoint('a');
      rig.queueWith({ shards: 1, historyMs: 0 });
      const publish = async () => await rig.queue.publish({ id: 'evt_1', payload: {} });
      await publish();
      // A master of a cluster that fails over may forget the payload, and another remember the delivery.
      await rig.redis.del('webhooks:payload:{evt_1}');
      if (attempted) {
        rig.queue.worker();
        await rig.queue.drained();
        expect(await rig.queue.deadLetters()).toMatchObject([{ reason: 'payload-missing' }]);
        await rig.queue.pause('a');
      }
      await publish();
      await publish();
      expect(await rig.redis.hget('webhooks:payload:{evt_1}', 'n')).toBe('1');
      if (attempted) await rig.queue.resume('a');
      else rig.queue.worker();
      await rig.queue.drained();
      expect(rig.idsSentTo('/a')).toEqual(['evt_1']);
      expect(await rig.queue.deadLetters()).toEqual([]);
      await until(async () => (await rig.redis.keys('webhooks:payload:*')).length === 0);
    },
  );

  test('calls an endpoint with a client certificate through an agent of its own', async () => {
    const tls = { cert: 'certificate', key: 'key' };
    await rig.endpoint('plain');
    await rig.endpoint('mutual', { tls });
    const made: unknown[] = [];
    const used: string[] = [];
    let closed = 0;
    rig
      .queueWith({
        agentFor: (given) => {
          made.push(given);
          return {
            dispatch: (options, handler) => {
              used.push(options.path);
              return rig.agent.dispatch(options, handler);
            },
            close: async () => {
              closed += 1;
            },
          };
        },
      })
      .worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    await rig.queue.drained();
    expect(made).toEqual([tls]);
    expect(used).toEqual(['/mutual', '/mutual']);
    await rig.queue.close();
    expect(closed).toBe(1);
  });

  test('publishes to the other endpoints although the settings of one are broken, and sends to it when they are mended', async () => {
    await rig.endpoint('well');
    const tls = { cert: 'certificate', key: 'key', rejectUnauthorized: false };
    await rig.endpoint('broken', { tls });
    await rig.endpoint('unreadable');
    let unreadable = true;
    const stored = rig.endpoints;
    rig.endpoints = {
      ...stored,
      async get(id) {
        if (unreadable && id === 'unreadable') throw new Error('cannot be decrypted');
        return await stored.get(id);
      },
    };
    const errors: string[] = [];
    rig.queueWith().worker({ sweepMs: 50, onError: ({ message }) => errors.push(message) });
    const { endpoints: reached } = await rig.queue.publish({ id: 'evt_1', payload: {} });
    expect([...reached].sort()).toEqual(['broken', 'unreadable', 'well']);
    await until(async () => (await rig.queue.stats()).delivered === 1);
    expect(rig.idsSentTo('/well')).toEqual(['evt_1']);
    await until(() => errors.length >= 2);
    expect(new Set(errors)).toEqual(
      new Set(['cannot be decrypted', 'tls.rejectUnauthorized cannot be set here']),
    );
    await rig.endpoint('broken');
    unreadable = false;
    // Nothing was used up, and a sweep comes for them when nobody did for a while.
    for (const key of await rig.redis.keys('*:wakes')) {
      for (const id of ['broken', 'unreadable'])
        await rig.redis.zadd(key, 'XX', 'INCR', -60_000, id);
    }
    await rig.queue.drained();
    expect(rig.idsSentTo('/broken')).toEqual(['evt_1']);
    expect(rig.idsSentTo('/unreadable')).toEqual(['evt_1']);
  });

  test('does not present a client certificate that could not be made, nor send without', async () => {
    await rig.endpoint('mutual', { tls: { cert: 'certificate', key: 'key' } });
    let tries = 0;
    rig
      .queueWith({
        endpointCacheMs: 0,
        agentFor: () => {
          tries += 1;
          throw new Error('no such key');
        },
      })
      .worker({ sweepMs: 20 });
    await rig.queue.publish({ payload: {} });
    await until(() => tries === 1);
    await until(async () => (await rig.redis.keys('*:drain:mutual.*')).length === 0);
    await rig.pass(60_000);
    await until(() => tries === 2);
    expect(rig.server.requests).toHaveLength(0);
  });

  test('shakes hands with the client certificate of each endpoint, and with no other', async () => {
    const [site, client, stranger] = [testCertificate(), testCertificate(), testCertificate()];
    const presented: string[] = [];
    const mutual = createServer(
      { ...site, ca: client.cert, requestCert: true, rejectUnauthorized: true },
      (request, response) => {
        const { raw } = (request.socket as TLSSocket).getPeerCertificate();
        presented.push(`${request.url} ${raw.toString('base64') === client.base64}`);
        response.writeHead(204).end();
      },
    );
    await new Promise<void>((resolve) => mutual.listen(0, '127.0.0.1', resolve));
    const { port } = mutual.address() as AddressInfo;
    for (const [id, { cert, key }] of Object.entries({ known: client, unknown: stranger })) {
      const url = `https://127.0.0.1:${port}/${id}`;
      await rig.endpoint(id, { url, tls: { cert, key, ca: site.cert } });
    }
    rig.queueWith({ agentFor: (tls) => egressAgent({ tls, allow: ['127.0.0.1'] }) }).worker();
    await rig.queue.publish({ payload: {} });
    await rig.queue.drained();
    expect(presented).toEqual(['/known true']);
    expect((await rig.queue.deadLetters()).map((letter) => letter.endpoint)).toEqual(['unknown']);
    mutual.closeAllConnections();
    mutual.close();
  });

  test('delivers what is new while an earlier attempt at the same endpoint hangs', async () => {
    await rig.endpoint('a', { concurrency: 2 });
    let release = (): void => undefined;
    const hanging = new Promise<void>((resolve) => {
      release = resolve;
    });
    const dispatched: string[] = [];
    const slow: WebhookQueueOptions['egress'] = {
      dispatch(options, handler) {
        dispatched.push(options.headers['webhook-id'] ?? '');
        if (options.headers['webhook-id'] !== 'evt_1') return rig.agent.dispatch(options, handler);
        void hanging.then(() => rig.agent.dispatch(options, handler));
        return true;
      },
    };
    rig.queueWith({ egress: slow, attemptTimeoutMs: 600_000 }).worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(() => dispatched.length === 1);
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    await until(() => dispatched.length === 2);
    release();
    await rig.queue.drained();
  });

  test('signs in the scheme that it is told', async () => {
    const scheme = timestampedHmac({ idFrom: 'header' });
    await rig.endpoint('a');
    rig.queueWith({ scheme }).worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await rig.queue.drained();
    const [sent] = rig.server.requests;
    const verified = createVerifier({ secrets: rig.secret, scheme }).verify(
      sent?.body ?? '',
      sent?.headers ?? {},
    );
    expect(verified.id).toBe('evt_1');
    expect(sent?.headers['webhook-signature']).toBeUndefined();
  });

  test('makes a delivery later that could not be signed, whatever the signer threw', async () => {
    const real = createSigner({ secrets: rig.secret });
    let tries = 0;
    const sign = async (message: Message): Promise<SignedHeaders> => {
      tries += 1;
      return tries === 1 ? await Promise.reject<never>(undefined) : real.sign(message);
    };
    await rig.endpoint('a', { secrets: [] });
    rig.queueWith({ shards: 1, signer: { scheme: real.scheme, sign } }).worker();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(async () => (await resting()) === 1);
    await rig.pass(1000);
    await rig.queue.drained();
    expect([tries, rig.idsSentTo('/a')]).toEqual([2, ['evt_1']]);
    const [, first] = await rig.queue.attempts('a');
    expect(first).toMatchObject({ verdict: 'failed', error: 'ERR_UNKNOWN' });
  });

  test('signs with both secrets while one is rotated', async () => {
    const [older, newer] = [generateSecret(), generateSecret()];
    const expiresAtMs = Date.now() + 60_000;
    await rig.endpoint('a', { secrets: [{ secret: newer }, { secret: older, expiresAtMs }] });
    await rig.endpoint('b', { secrets: [{ secret: newer }, { secret: older, expiresAtMs: 1 }] });
    rig.queueWith().worker();
    await rig.queue.publish({ payload: {} });
    await rig.queue.drained();
    const signaturesAt = (path: string) =>
      rig.server.requests
        .find(({ target }) => target === path)
        ?.headers['webhook-signature']?.split(' ');
    expect(signaturesAt('/a')).toHaveLength(2);
    expect(signaturesAt('/b')).toHaveLength(1);
  });

  test('signs with a secret that the receiver knows, although it is rotated again and again meanwhile', async () => {
    await rig.endpoint('a', { concurrency: 4 });
    const managed = createEndpoints({ store: rig.endpoints, assertAllowed: () => undefined });
    rig.queueWith().worker();
    const first = (await managed.get('a'))?.secrets[0]?.secret ?? '';
    const current = new Set([first]);
    for (let round = 0; round < 5; round += 1) {
      const publishing = numbered(20).map((id) =>
        rig.queue.publish({ id: `${id}_${round}`, payload: {} }),
      );
      const [rotated, changed] = await Promise.all([
        managed.rotateSecret('a'),
        managed.update('a', { concurrency: 4 + round }),
        ...publishing,
      ]);
      current.add(rotated.secrets[0]?.secret ?? '');
      expect(changed.concurrency).toBe(4 + round);
    }
    await rig.queue.drained();
    expect(rig.server.requests).toHaveLength(100);
    // Whoever has the first one still, and whoever was given each of those since.
    const known = createVerifier({ secrets: [...current] });
    for (const { body, headers } of rig.server.requests) {
      expect(known.verify(body, headers).keyIndex).toBe(0);
    }
    const last = createVerifier({ secrets: [...current].at(-1) ?? '' });
    await rig.queue.publish({ payload: {} });
    await rig.queue.drained();
    const { body, headers } = rig.server.requests.at(-1) ?? { body: '', headers: {} };
    expect(last.verify(body, headers).keyIndex).toBe(0);
  });

  test('comes for an endpoint whose publisher crashed before it could queue the job', async () => {
    await rig.endpoint('a');
    rig.queueWith();
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    // The job is lost, and it is a while ago that somebody should have come.
    for (const key of await rig.redis.keys('*:drain:*')) await rig.redis.del(key);
    for (const key of await rig.redis.keys('*:wakes')) await rig.redis.zincrby(key, -60_000, 'a');
    rig.queue.worker({ sweepMs: 60_000 });
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_1']);
  });

  test('comes for an endpoint although its drain job, queued by a clock that was ahead, sleeps on', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(respond({ status: 500 }));
    rig.queueWith({ shards: 1, schedule: [0, 3_600_000] }).worker({ sweepMs: 20 });
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    await until(async () => (await resting()) === 1);
    // The hour is over, and the job has not noticed.
    await rig.redis.zincrby('webhooks:{0}:due:a', -3_660_000, 'evt_1');
    await rig.redis.zincrby('webhooks:{0}:wakes', -3_660_000, 'a');
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_1', 'evt_1']);
  });

  test.each([1, 8])(
    'does nothing with %d shards where there are two, because deliveries would wait where nobody looks',
    async (shards) => {
      await rig.endpoint('a');
      await rig.queueWith().publish({ id: 'evt_1', payload: {} });
      const before = (await rig.redis.keys('*')).sort();
      const { redis: connection, endpoints, agent: egress } = rig;
      const other = createWebhookQueue({ connection, endpoints, egress, shards });
      const changed = { code: 'ERR_WEBHOOKS_SHARDS_CHANGED' };
      await expect(other.publish({ payload: {} })).rejects.toMatchObject(changed);
      await expect(other.redeliver('a:evt_1')).rejects.toMatchObject(changed);
      await expect(other.redeliverSince('a', 0)).rejects.toMatchObject(changed);
      await expect(other.deadLetters()).rejects.toMatchObject(changed);
      await expect(other.stats()).rejects.toMatchObject(changed);
      await expect(other.pause('a')).rejects.toMatchObject(changed);
      await expect(other.pause()).rejects.toMatchObject(changed);
      await expect(other.resume('a')).rejects.toMatchObject(changed);
      await expect(other.resume()).rejects.toMatchObject(changed);
      await expect(other.state('a')).rejects.toMatchObject(changed);
      await expect(other.attempts('a')).rejects.toMatchObject(changed);
      const errors: unknown[] = [];
      other.worker({ onError: (error) => errors.push(error) });
      await until(() => errors.length > 0);
      expect(errors[0]).toMatchObject(changed);
      const ours = (await rig.redis.keys('*')).filter((key) => !key.includes(':drain:')).sort();
      expect(ours).toEqual(before.filter((key) => !key.includes(':drain:')));
      await other.close();
      // Somebody who has made sure that nothing is left may change it.
      await rig.redis.del('webhooks:shards');
      const after = createWebhookQueue({ connection, endpoints, egress, shards });
      expect(await after.stats()).toMatchObject({ dead: 0 });
      await after.close();
    },
  );

  test('gives back what it was attempting when it is closed, without losing or repeating it', async () => {
    await rig.endpoint('a', { concurrency: 5 });
    rig.queueWith();
    await Promise.all(Array.from({ length: 200 }, () => rig.queue.publish({ payload: {} })));
    const first = rig.queue.worker();
    await until(() => rig.server.requests.length > 20);
    await first.close();
    const { delivered, pending } = await rig.queue.stats();
    expect(delivered).toBe(rig.server.requests.length);
    expect(delivered + pending).toBe(200);
    rig.queue.worker();
    await rig.queue.drained();
    expect(new Set(rig.idsSentTo('/a')).size).toBe(200);
    expect(rig.server.requests).toHaveLength(200);
  });

  test('sends to an endpoint that is there again, however long it remembers endpoints', async () => {
    await rig.endpoint('a');
    rig.queueWith({ endpointCacheMs: 3_600_000, schedule: [0, 1] });
    await rig.endpoints.delete('a');
    rig.endpoints = Object.assign(rig.endpoints, { matching: async () => ['a'] });
    await rig.queue.publish({ id: 'evt_1', payload: {} });
    rig.queue.worker();
    await rig.queue.drained();
    await rig.endpoint('a');
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    await rig.queue.drained();
    expect(rig.idsSentTo('/a')).toEqual(['evt_2']);
  });

  test('numbers the drain jobs of an endpoint that is there again on, so that none is taken for one of before', async () => {
    await rig.endpoint('a');
    rig.server.enqueue(respond({ status: 500 }));
    rig.queueWith({ schedule: [0, 86_400_000], shards: 1 }).worker();
    const jobs = async (): Promise<readonly string[]> =>
      await rig.redis.zrange('webhooks:{0}:drain:delayed', '0', '-1');
    await rig.queue.publish({ payload: {} });
    await until(async () => (await jobs()).length === 1);
    const [before] = await jobs();
    await rig.endpoints.delete('a');
    // Somebody else's turn finds it gone; the job that rests stays.
    await rig.redis.del('webhooks:{0}:state:a', 'webhooks:{0}:due:a', 'webhooks:{0}:tries:a');
    await rig.redis.zrem('webhooks:{0}:wakes', 'a');
    await rig.endpoint('a');
    await rig.queue.publish({ id: 'evt_2', payload: {} });
    await until(() => rig.idsSentTo('/a').includes('evt_2'));
    const number = (id = ''): number => Number(id.split('.')[1]);
    const seq = Number(await rig.redis.hget('webhooks:{0}:state:a', 'seq'));
    expect(seq).toBeGreaterThan(number(before));
  });

  test('leaves no payload behind when no delivery needs it', async () => {
    await rig.endpoint('a');
    await rig.endpoint('b');
    rig.queueWith({ historyMs: 0 });
    for (let times = 0; times < 3; times += 1)
      await rig.queue.publish({ id: 'evt_1', payload: {} });
    rig.queue.worker();
    await rig.queue.drained();
    await until(async () => (await rig.redis.keys('webhooks:payload:*')).length === 0);
  });
});
