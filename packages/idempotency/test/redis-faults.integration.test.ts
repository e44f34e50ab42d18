import { once } from 'node:events';
import type { Outcome, Pass, Reply, Verdict } from '@countersign/guard';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Cluster, Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type IdempotencyGuardOptions, idempotencyGuard } from '../src/guard.ts';
import type { Execution } from '../src/idempotency.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import { event } from './events.ts';
import { passed, problemIn, refused, requestOf } from './request.ts';
import { type Application, adapters, type RunningServer } from './servers.ts';

const created: Outcome = {
  status: 201,
  headers: [['content-type', 'application/json']],
  body: Buffer.from('{"id":1}'),
  aborted: false,
};

let server: RedisServer;
let redis: Redis;
let send: () => Promise<Verdict<Execution>>;

const mount = (options: Partial<IdempotencyGuardOptions<object>> = {}): void => {
  redis = server.client();
  const guard = idempotencyGuard({
    store: redisIdempotencyStore(redis, { timeoutMs: 250 }),
    principal: () => 'alice',
    leaseMs: 600,
    ...options,
  });
  send = async () => await guard(requestOf({ key: '"k"' }), {});
};

// Neither tells a server that is busy from one that is dead: both try again until it answers.
const begun = (): Promise<Pass<Execution>> => eventually(async () => passed(await send()));
const answered = (): Promise<Reply> =>
  eventually(async () => {
    const reply = refused(await send());
    if (reply.status === 503) throw new Error('not connected yet');
    return reply;
  });

beforeEach(async () => {
  // What Redis has acknowledged survives its death.
  server = await startRedis({ persistence: 'aof' });
  mount();
});

afterEach(async () => {
  vi.restoreAllMocks();
  await server.stop();
});

describe('Redis is killed', () => {
  test('before begin: 503 in bounded time, and the handler does not run', async () => {
    await server.kill();
    const reply = refused(await send());
    expect(reply.status).toBe(503);
    expect(reply.headers).toContainEqual(['retry-after', '1']);
  });

  test('before begin, with onStoreError open: the handler runs, unprotected', async () => {
    mount({ onStoreError: 'open' });
    await server.kill();
    expect(passed(await send()).context.fence).toBeUndefined();
  });

  test('before renewal, for less than a lease: the lease holds', async () => {
    mount({ leaseMs: 5000 });
    const { context, settle } = await begun();
    const failed = event('store-error');
    await server.kill();
    expect(await failed).toMatchObject({ operation: 'renew' });
    await server.restart();
    await eventually(() => settle?.(created));
    expect(context.signal.aborted).toBe(false);
    expect((await answered()).status).toBe(201);
  });

  test('before renewal, for longer than a lease: the signal fires', async () => {
    const { context } = await begun();
    const aborted = once(context.signal, 'abort');
    await server.kill();
    await aborted;
    expect(context.signal.reason).toMatchObject({ code: 'ERR_IDEMPOTENCY_LEASE_LOST' });
  });

  test('before complete: it is told, and takes the outcome when it is back', async () => {
    mount({ leaseMs: 5000 });
    const { settle } = await begun();
    await server.kill();
    await expect(settle?.(created)).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    const completed = event('completed');
    await server.restart();
    await completed;
    expect((await answered()).status).toBe(201);
  });

  test('before complete, for good: the outcome is unknown, never a second execution', async () => {
    const store = redisIdempotencyStore(redis, { timeoutMs: 250 });
    const offers: Promise<boolean>[] = [];
    const complete: typeof store.complete = (...outcome) => {
      const offer = store.complete(...outcome);
      offers.push(offer);
      return offer;
    };
    mount({ store: { ...store, complete } });
    const { settle } = await begun();
    await server.kill();
    await expect(settle?.(created)).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    await event('lease-lost');
    await Promise.allSettled(offers); // one may be under way, and would be taken
    await server.restart();
    mount();
    const reply = await answered();
    expect(problemIn(reply)).toMatchObject({ code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN' });
  });

  test('before release: the key is free when it is back', async () => {
    mount({ leaseMs: 5000 });
    const { context, settle } = await begun();
    context.notExecuted();
    await server.kill();
    await expect(settle?.(created)).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    const released = event('released');
    await server.restart();
    await released;
    await begun();
  });

  test('before replay: 503, and the outcome is there when it is back', async () => {
    await (await begun()).settle?.(created);
    await server.kill();
    expect(refused(await send()).status).toBe(503);
    await server.restart();
    const reply = await answered();
    expect(reply.status).toBe(201);
  });
});

describe('Redis hangs', () => {
  test('at begin: 503 in bounded time, and what it granted too late is given back', async () => {
    mount({ leaseMs: 5000 });
    await (await begun()).settle?.({ ...created, refused: true }); // connected, and free
    server.pause();
    expect(refused(await send()).status).toBe(503);
    server.resume();
    await begun();
  });

  test('at complete: bounded, and the outcome is stored all the same', async () => {
    mount({ leaseMs: 5000 });
    const { settle } = await begun();
    server.pause();
    await expect(settle?.(created)).rejects.toMatchObject({ code: 'ERR_STORE_TIMEOUT' });
    server.resume();
    const reply = await eventually(async () => {
      const verdict = refused(await send());
      if (verdict.status !== 201) throw new Error('not yet');
      return verdict;
    });
    expect(String(reply.body)).toBe('{"id":1}');
  });
});

describe.each(adapters)('Redis is killed, seen through %s', (_adapter, start) => {
  let service: RunningServer;
  let application: Application;
  let executions: number;

  beforeEach(async () => {
    executions = 0;
    application = () => ({ status: 201, body: Buffer.from('paid') });
    const store = redisIdempotencyStore(server.client(), { timeoutMs: 250 });
    const counted: Application = (...given) => {
      executions += 1;
      return application(...given);
    };
    service = await start(counted, { store, leaseMs: 5000 });
  });

  afterEach(async () => {
    await service.close();
  });

  const pay = async (): Promise<readonly [status: number, body: string]> => {
    const headers = { 'idempotency-key': '"k"', 'content-type': 'application/x-test' };
    const init = { method: 'POST', headers, body: '{"amount":100}' };
    const response = await fetch(`${service.origin}/payments`, init);
    return [response.status, await response.text()];
  };
  const paid = async (): Promise<void> => {
    expect(await pay()).toEqual([201, 'paid']);
  };

  test('before begin: 503, and the request runs when it is back', async () => {
    await server.kill();
    expect((await pay())[0]).toBe(503);
    expect(executions).toBe(0);
    await server.restart();
    await eventually(paid);
    expect(executions).toBe(1);
  });

  test('in the handler: the answer leaves all the same, and is replayed when it is back', async () => {
    application = async () => {
      await server.kill();
      return { status: 201, body: Buffer.from('paid') };
    };
    vi.spyOn(console, 'error').mockImplementation(() => {}); // that it could not be stored at once
    await eventually(paid);
    const completed = event('completed');
    await server.restart();
    await completed;
    await eventually(paid);
    expect(executions).toBe(1);
  });

  test('before replay: 503, and the answer is there when it is back', async () => {
    await eventually(paid);
    await server.kill();
    expect((await pay())[0]).toBe(503);
    await server.restart();
    await eventually(paid);
    expect(executions).toBe(1);
  });
});

test('Redis forgets everything while a handler runs: the handler puts its record back', async () => {
  mount({ leaseMs: 5000 });
  const { settle } = await begun();
  await server.client().flushall();
  await settle?.(created);
  expect((await answered()).status).toBe(201);
});

/** It dies for good, and its replica takes its place, with all that it was passed on. */
describe('the master of a Cluster that has the record is killed', () => {
  let clusterServers: RedisClusterServers;
  let killed: number;

  beforeEach(async () => {
    clusterServers = await startRedisCluster({ replicas: 1 });
    mountOn(clusterServers.client());
  });

  afterEach(async () => {
    await clusterServers.stop();
  });

  const kill = async (): Promise<void> => {
    const admins = clusterServers.masters.map((master) => master.client());
    const sizes = await Promise.all(admins.map((admin) => admin.dbsize()));
    killed = sizes.findIndex((size) => size > 0);
    await eventually(async () => passedOn(await (admins[killed] as Redis).info('replication')));
    await clusterServers.masters[killed]?.kill();
  };
  const passedOn = (told: string): void => {
    const [, written] = /^master_repl_offset:(\d+)/m.exec(told) ?? [];
    const [, passed] = /^slave0:.*offset=(\d+)/m.exec(told) ?? [];
    if (written !== passed) throw new Error('not yet');
  };
  const takeOver = async (): Promise<void> => {
    await clusterServers.failover(killed);
  };
  const mountOn = (client: Cluster): void => {
    const guard = idempotencyGuard({
      store: redisIdempotencyStore(client, { timeoutMs: 250 }),
      principal: () => 'alice',
      leaseMs: 5000,
    });
    send = async () => await guard(requestOf({ key: '"k"' }), {});
  };

  test('before begin: 503 in bounded time, and the request runs when a replica has taken over', async () => {
    await (await begun()).settle?.({ ...created, refused: true });
    await kill();
    expect(refused(await send()).status).toBe(503);
    await takeOver();
    await begun();
  });

  test('before renewal: the lease holds when a replica has taken over in time', async () => {
    const { context, settle } = await begun();
    const failed = event('store-error');
    await kill();
    expect(await failed).toMatchObject({ operation: 'renew' });
    await takeOver();
    await eventually(() => settle?.(created));
    expect(context.signal.aborted).toBe(false);
    expect((await answered()).status).toBe(201);
  });

  test('before complete: a replica takes the outcome, and it is replayed', async () => {
    const { context, settle } = await begun();
    await kill();
    await expect(settle?.(created)).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    const completed = event('completed');
    await takeOver();
    await completed;
    expect(context.signal.aborted).toBe(false);
    expect((await answered()).status).toBe(201);
  });

  test('before release: the key is free when a replica has taken over', async () => {
    const { context, settle } = await begun();
    context.notExecuted();
    await kill();
    await expect(settle?.(created)).rejects.toMatchObject({ name: 'StoreUnavailableError' });
    const released = event('released');
    await takeOver();
    await released;
    await begun();
  });

  test('before replay: 503, and the outcome is there when a replica has taken over', async () => {
    await (await begun()).settle?.(created);
    await kill();
    expect(refused(await send()).status).toBe(503);
    await takeOver();
    const reply = await answered();
    expect(reply.status).toBe(201);
  });
});

/** Tries again until it works; the test's own time limit ends it. */
async function eventually<T>(attempt: () => T | Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
