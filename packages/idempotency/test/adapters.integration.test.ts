import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { gunzipSync, gzipSync } from 'node:zlib';
import { fastify as guards } from '@countersign/guard/fastify';
import { hono as honoGuards } from '@countersign/guard/hono';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import { serve } from '@hono/node-server';
import { fastify } from 'fastify';
import { Hono } from 'hono';
import { compress } from 'hono/compress';
import type { Cluster, Redis } from 'ioredis';
import { Agent, request } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import type { IdempotencyStore } from '../src/store.ts';
import { event } from './events.ts';
import { rewind } from './rewind.ts';
import {
  type Answer,
  type Application,
  adapters,
  type RunningServer,
  type Start,
} from './servers.ts';

let single: RedisServer;
let cluster: RedisClusterServers;
const stores: Record<string, () => Stored> = {
  memory() {
    let aheadMs = 0;
    const store = memoryIdempotencyStore({ now: () => Date.now() + aheadMs });
    const advance = (ms: number): void => {
      aheadMs += ms;
    };
    return { store, advance };
  },
  Redis: () => storedIn(single.client()),
  'Redis Cluster': () => storedIn(cluster.client()),
};
const agent = new Agent({ connections: 128 });

interface Stored {
  readonly store: IdempotencyStore;
  /** Lets time pass for the store, and for nobody else. */
  advance(ms: number): void | Promise<void>;
}

function storedIn(client: Redis | Cluster): Stored {
  const prefix = `${randomUUID()}:`;
  const store = redisIdempotencyStore(client, { prefix });
  return { store, advance: (ms) => rewind(client, prefix, ms) };
}

beforeAll(async () => {
  [single, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});

afterAll(async () => {
  await agent.close();
  await Promise.all([single.stop(), cluster.stop()]);
});

const matrix = adapters.flatMap(([adapter, start]) =>
  Object.keys(stores).map((store) => ({ adapter, store, start })),
);

describe.each(matrix)('$adapter, $store', ({ start, store: storeName }) => {
  let server: RunningServer | undefined;
  let store: IdempotencyStore;
  let advance: Stored['advance'];
  let key: string;
  let executions: number;

  beforeEach(() => {
    const create = stores[storeName] as () => Stored;
    ({ store, advance } = create());
    key = randomUUID();
    executions = 0;
    server = undefined;
  });

  afterEach(async () => {
    vi.restoreAllMocks();
    await server?.close();
  });

  const run = async (
    application: Application,
    options: Partial<Parameters<Start>[1]> = {},
    adapterOptions?: Parameters<Start>[2],
  ): Promise<void> => {
    const counting: Application = (execution, body) => {
      executions += 1;
      return application(execution, body);
    };
    server = await start(counting, { store, ...options }, adapterOptions);
  };

  test('of a hundred requests at once one is executed, and the others are told to wait', async () => {
    const refusals = event('refused', 99);
    await run(async () => {
      await refusals;
      return { status: 201 };
    });
    const statuses = await Promise.all(
      Array.from({ length: 100 }, async () => (await pay()).status),
    );
    expect(statuses.filter((status) => status === 201)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(99);
    expect(executions).toBe(1);
  });

  test('of a hundred requests at once one is executed, and the others wait for its outcome', async () => {
    let begun = 0;
    const everybody = Promise.withResolvers<void>();
    const { begin } = store;
    store = {
      ...store,
      begin: async (claim, options) => {
        begun += 1;
        if (begun === 100) everybody.resolve();
        return await begin(claim, options);
      },
    };
    await run(
      async () => {
        await everybody.promise;
        return { status: 201, body: Buffer.from('paid') };
      },
      { waitMs: 30_000 },
    );
    const answers = await Promise.all(Array.from({ length: 100 }, () => pay()));
    expect(new Set(answers.map(({ status, body }) => `${status} ${body.toString()}`))).toEqual(
      new Set(['201 paid']),
    );
    expect(answers.filter(({ headers }) => headers['idempotency-replayed'])).toHaveLength(99);
    expect(executions).toBe(1);
  });

  const json = ['content-type', 'application/json'] as const;
  const answers: [string, Answer][] = [
    ['201', { status: 201, headers: [json], body: Buffer.from('{"id":1}') }],
    ['204', { status: 204 }],
    ['402', { status: 402, headers: [json], body: Buffer.from('{"error":"card_declined"}') }],
    ['500', { status: 500, headers: [json], body: Buffer.from('{"error":"half done"}') }],
    ['without a type', { status: 200, body: Buffer.from('who knows') }],
    [
      'with letters in a header',
      {
        status: 200,
        headers: [['content-disposition', 'attachment; filename="Quittung für März.pdf"']],
        body: Buffer.from('%PDF'),
      },
    ],
    [
      'binary',
      { status: 200, headers: [['content-type', 'application/pdf']], body: randomBytes(999) },
    ],
    [
      '1 MiB',
      { status: 200, headers: [['content-type', 'image/png']], body: randomBytes(2 ** 20) },
    ],
  ];

  test.each(answers)('a replay is the same byte by byte: %s', async (_, answer) => {
    await run(() => ({
      ...answer,
      headers: [
        ...(answer.headers ?? []),
        ['location', '/payments/1'],
        ['set-cookie', 'sid=secret'],
      ],
    }));
    const first = await pay();
    const second = await pay();
    expect(executions).toBe(1);
    expect(second.status).toBe(answer.status);
    expect(second.body.equals(first.body)).toBe(true);
    expect(second.body.equals(answer.body ?? Buffer.of())).toBe(true);
    expect(first.headers['set-cookie']).toBeDefined();
    expect(second.headers['idempotency-replayed']).toBe('true');
    expect(first.headers['idempotency-expires']).toMatch(/ GMT$/);
    expect(lasting(second.headers)).toEqual(lasting(first.headers));
  });

  test('a replay of a HEAD request states the same length', async () => {
    await run(() => ({ status: 200, headers: [['content-length', '42']] }), {
      required: ['HEAD /payments'],
    });
    const [first, second] = [await pay({ method: 'HEAD' }), await pay({ method: 'HEAD' })];
    expect(executions).toBe(1);
    expect(second.headers['content-length']).toBe(first.headers['content-length']);
    expect(second.headers['idempotency-replayed']).toBe('true');
  });

  test('a handler that throws is a 500 that is replayed', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {}); // Hono prints what was thrown
    await run(() => {
      throw new Error('half done');
    });
    expect((await pay()).status).toBe(500);
    expect((await pay()).headers['idempotency-replayed']).toBe('true');
    expect(executions).toBe(1);
  });

  const streaming = { status: 201, body: Buffer.from('a stream'), streams: true };

  test('a response that streams is replaced by a refusal, which is replayed', async () => {
    await run(() => streaming);
    const answers = [await pay(), await pay()];
    for (const { status, headers, body } of answers) {
      expect(status).toBe(500);
      expect(headers['content-type']).toBe('application/problem+json');
      expect(JSON.parse(body.toString())).toMatchObject({ code: 'ERR_IDEMPOTENCY_STREAM_REFUSED' });
    }
    expect(answers[1]?.headers['idempotency-replayed']).toBe('true');
    expect(executions).toBe(1);
  });

  test('a response that streams is buffered and replayed where that is wanted', async () => {
    await run(() => streaming, { streaming: 'buffer' }, { streams: true });
    const answers = [await pay(), await pay()];
    expect(answers.map(({ status, body }) => [status, body.toString()])).toEqual([
      [201, 'a stream'],
      [201, 'a stream'],
    ]);
    expect(executions).toBe(1);
  });

  test('the guard is refused where handlers are said to stream', async () => {
    await expect(run(() => streaming, {}, { streams: true })).rejects.toThrow(/^streams: /);
  });

  test('two callers with the same key are two requests', async () => {
    await run((_, body) => ({ status: 201, body }));
    const [alice, bob] = [await pay({ caller: 'alice' }), await pay({ caller: 'bob' })];
    expect(executions).toBe(2);
    expect(bob.headers['idempotency-replayed']).toBeUndefined();
    expect([alice.status, bob.status]).toEqual([201, 201]);
  });

  test('the same key with another body is refused', async () => {
    await run((_, body) => ({ status: 201, body }));
    expect((await pay({ body: '{"amount":1}' })).body.toString()).toBe('{"amount":1}');
    const reply = await pay({ body: '{"amount":2}' });
    expect(reply.status).toBe(422);
    expect(reply.headers['content-type']).toBe('application/problem+json');
  });

  test('what was not executed may be sent again, corrected', async () => {
    await run(({ notExecuted }, body) => {
      if (body.toString() !== 'bad') return { status: 201 };
      notExecuted();
      return { status: 400 };
    });
    expect((await pay({ body: 'bad' })).status).toBe(400);
    expect((await pay({ body: 'good' })).status).toBe(201);
  });

  test('a handler that takes longer than its lease keeps it', async () => {
    let renewals = 0;
    const often = Promise.withResolvers<void>();
    const { renew } = store;
    store = {
      ...store,
      renew: async (claim) => {
        const isHeld = await renew(claim);
        renewals += 1;
        if (renewals === 6) often.resolve(); // two leases
        return isHeld;
      },
    };
    let aborted = true;
    await run(
      async ({ signal }) => {
        await often.promise;
        expect((await pay()).status).toBe(409);
        aborted = signal.aborted;
        return { status: 201 };
      },
      { leaseMs: 300 },
    );
    expect((await pay()).status).toBe(201);
    expect(aborted).toBe(false);
    expect((await pay()).headers['idempotency-replayed']).toBe('true');
    expect(executions).toBe(1);
  });

  test('a handler whose process stood still for its lease cannot overwrite the newer outcome', async () => {
    const began = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    await run(
      async () => {
        if (executions > 1) return { status: 201, body: Buffer.from('newer') };
        began.resolve();
        await goOn.promise;
        return { status: 201, body: Buffer.from('stale') };
      },
      { onUnknown: 'rerun' },
    );
    const stale = pay();
    await began.promise;
    await advance(30_000);
    expect((await pay()).body.toString()).toBe('newer');
    goOn.resolve();
    await stale;
    const reply = await pay();
    expect([reply.body.toString(), reply.headers['idempotency-replayed']]).toEqual([
      'newer',
      'true',
    ]);
    expect(executions).toBe(2);
  });

  test('a caller that leaves changes nothing: the work completes and is replayed', async () => {
    const began = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    await run(async ({ signal }) => {
      began.resolve();
      await goOn.promise;
      return { status: signal.aborted ? 500 : 201, body: Buffer.from('paid') };
    });
    const caller = new AbortController();
    const abandoned = pay({ signal: caller.signal });
    await began.promise;
    const completed = event('completed');
    caller.abort();
    await expect(abandoned).rejects.toThrow();
    goOn.resolve();
    await completed;
    const reply = await pay();
    expect([reply.status, reply.body.toString()]).toEqual([201, 'paid']);
    expect(executions).toBe(1);
  });

  test('a caller that leaves before its handler runs may come again: nothing was executed', async () => {
    const { begin } = store;
    const arrived = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    store = {
      ...store,
      begin: async (claim, options) => {
        arrived.resolve();
        const begun = await begin(claim, options);
        await left.promise;
        return begun;
      },
    };
    await run((_, body) => ({ status: 201, body }));
    server?.listener.once('request', (_request, response) => response.once('close', left.resolve));
    const released = event('released');
    const caller = new AbortController();
    const abandoned = pay({ signal: caller.signal });
    await arrived.promise;
    caller.abort();
    await expect(abandoned).rejects.toThrow();
    await released;
    expect((await pay()).body.toString()).toBe('{"amount":100}');
    expect(executions).toBe(1);
  });

  test('a handler that fails when its caller has left is a 500 that is replayed, as ever', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const began = Promise.withResolvers<void>();
    const left = Promise.withResolvers<void>();
    await run(async () => {
      began.resolve();
      await left.promise;
      throw new Error('half done');
    });
    server?.listener.once('request', (_request, response) => response.once('close', left.resolve));
    const completed = event('completed');
    const caller = new AbortController();
    const abandoned = pay({ signal: caller.signal });
    await began.promise;
    caller.abort();
    await expect(abandoned).rejects.toThrow();
    await completed;
    const reply = await pay();
    expect([reply.status, reply.headers['idempotency-replayed']]).toEqual([500, 'true']);
    expect(executions).toBe(1);
  });

  interface Payment {
    readonly method?: string;
    readonly body?: string;
    readonly caller?: string;
    readonly signal?: AbortSignal;
  }

  interface Reply {
    readonly status: number;
    readonly headers: Readonly<Record<string, string | string[] | undefined>>;
    readonly body: Buffer;
  }

  async function pay(payment: Payment = {}): Promise<Reply> {
    const { method = 'POST', body = '{"amount":100}', caller = 'alice', signal } = payment;
    const response = await request(`${server?.origin}/payments`, {
      dispatcher: agent,
      method: method as 'POST',
      headers: {
        'idempotency-key': `"${key}"`,
        'x-caller': caller,
        ...(method === 'POST' && { 'content-type': 'application/x-test' }),
      },
      ...(method === 'POST' && { body }),
      ...(signal && { signal }),
    });
    return {
      status: response.statusCode,
      headers: response.headers,
      body: Buffer.from(await response.body.arrayBuffer()),
    };
  }
});

test('a hook of Fastify that rewrites responses does not rewrite their replays once more', async () => {
  const app = fastify();
  const guard = idempotencyGuard({ store: memoryIdempotencyStore(), principal: () => 'alice' });
  await app.register(guards(guard));
  app.addHook('onSend', async (_request, reply, payload) => {
    reply.header('content-encoding', 'gzip').removeHeader('content-length');
    return gzipSync(payload as string);
  });
  app.post('/payments', () => 'paid');
  const pay = () =>
    app.inject({ method: 'POST', url: '/payments', headers: { 'idempotency-key': 'k' } });
  const [first, second] = [await pay(), await pay()];
  expect(second.headers['idempotency-replayed']).toBe('true');
  expect(gunzipSync(second.rawPayload).toString()).toBe('paid');
  expect(second.rawPayload.equals(first.rawPayload)).toBe(true);
  expect(lasting(second.headers)).toEqual(lasting(first.headers));
  await app.close();
});

test.each(['in front of', 'behind'])(
  'a replay is not compressed once more by what stands %s the guards in Hono',
  async (where) => {
    const app = new Hono();
    const guard = idempotencyGuard({
      store: memoryIdempotencyStore(),
      principal: () => 'alice',
      streaming: 'buffer',
    });
    const handlers = [honoGuards(guard), compress({ threshold: 0 })];
    app.use(...(where === 'behind' ? handlers : handlers.toReversed()));
    app.post('/payments', (c) => c.text('paid'));
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const pay = async () => {
      const { headers, body } = await request(`http://127.0.0.1:${port}/payments`, {
        dispatcher: agent,
        method: 'POST',
        headers: { 'idempotency-key': 'k', 'accept-encoding': 'gzip' },
      });
      return { headers, body: Buffer.from(await body.arrayBuffer()) };
    };
    const [first, second] = [await pay(), await pay()];
    expect(second.headers['idempotency-replayed']).toBe('true');
    expect(gunzipSync(second.body).toString()).toBe('paid');
    expect(second.body.equals(first.body)).toBe(true);
    expect(lasting(second.headers)).toEqual(lasting(first.headers));
    server.close();
  },
);

/** The header fields that a replay repeats: those of the connection, the framing and this one exchange aside. */
function lasting(headers: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const passing = [
    'date',
    'connection',
    'keep-alive',
    'content-length',
    'transfer-encoding',
    'set-cookie',
    'idempotency-replayed',
    'idempotency-expires',
  ];
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !passing.includes(name)));
}
