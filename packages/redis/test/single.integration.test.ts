import { execFileSync } from 'node:child_process';
import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import { startFaultProxy } from '@countersign/testkit/fault-proxy';
import { type RedisClientOptions, type RedisServer, startRedis } from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  expectTypeOf,
  test,
} from 'vitest';
import { type Script, StoreUnavailableError, script } from '../src/index.ts';

const increment: Script<[by: number], number> = script(
  `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  { keys: 1, timeoutMs: 2000 },
);

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  redis = server.client();
  await redis.flushall();
});
afterEach(() => redis.disconnect());

async function evalshaCalls(client: Redis): Promise<number> {
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0);
}

/** All that is ready to run has run, and the loop has not turned. */
async function afterMicrotasks(): Promise<void> {
  for (let round = 0; round < 3; round += 1) await new Promise(process.nextTick);
}

describe('a script', () => {
  test('gets its own keys and arguments and returns what Redis makes of its reply', async () => {
    const echo: Script<[string, number, string], [string[], string[]]> = script(
      'return {KEYS, ARGV}',
      { keys: 2 },
    );
    expectTypeOf(echo).returns.resolves.toEqualTypeOf<[string[], string[]]>();
    const replies = await Promise.all([
      echo(redis, ['a', 'b'], ['x', 1.5, '']),
      echo(redis, ['c', 'd'], ['é', -1, ' ']),
    ]);
    expect(replies).toEqual([
      [
        ['a', 'b'],
        ['x', '1.5', ''],
      ],
      [
        ['c', 'd'],
        ['é', '-1', ' '],
      ],
    ]);
  });

  test.each([
    ['return 3.99', 3],
    ['return nil', null],
    ['', null],
    ['return false', null],
    ['return true', 1],
    ["return ''", ''],
    ["return {1, {'a'}, false}", [1, ['a'], null]],
  ])('%s becomes %j', async (lua, reply) => {
    await expect(script(lua, { keys: 1 })(redis, ['k'], [])).resolves.toEqual(reply);
  });

  test('carries bytes both ways', async () => {
    const bytes = Buffer.from([0, 255, 13, 10, 0xc3, 0x28]);
    const echo: Script<[Uint8Array], Buffer> = script('return ARGV[1]', {
      keys: 1,
      replies: 'bytes',
    });
    await expect(echo(redis, ['k'], [new Uint8Array(bytes)])).resolves.toEqual(bytes);
  });

  test('runs its prelude once for all the calls that travel together', async () => {
    const counted: Script<[], number> = script('return turn', {
      keys: 1,
      prelude: `local turn = redis.call('INCR', 'turns')`,
    });
    await expect(
      Promise.all([counted(redis, ['a'], []), counted(redis, ['b'], [])]),
    ).resolves.toEqual([1, 1]);
    await expect(counted(redis, ['a'], [])).resolves.toBe(2);
  });

  test('runs once for all calls of a round trip where their number of arguments is fixed', async () => {
    const pairs: Script<[string, number], [string, number]> = script(
      `local replies = {}
       for call = 1, #KEYS do
         replies[call] = ARGV[2 * call] == '13'
           and {err = 'ERR thirteen'}
           or {KEYS[call] .. ARGV[2 * call - 1], #KEYS}
       end
       return replies`,
      { keys: 1, argsPerCall: 2 },
    );
    const [a, b, c] = await Promise.allSettled([
      pairs(redis, ['a'], ['x', 1]),
      pairs(redis, ['b'], ['y', 13]),
      pairs(redis, ['c'], ['', 2]),
    ]);
    expect([a, c]).toMatchObject([{ value: ['ax', 3] }, { value: ['c', 3] }]);
    expect(b).toMatchObject({ reason: { code: 'ERR_STORE_FAILED', message: /thirteen/ } });
    await expect(pairs(redis, ['a'], ['x'] as never)).rejects.toThrow(/^args: expected 2, got 1/);
  });

  test.each<RedisClientOptions>([
    { stringNumbers: true },
    { enableAutoPipelining: true },
    { commandTimeout: 1, maxRetriesPerRequest: 0, enableOfflineQueue: false },
    { protocol: 2, showFriendlyErrorStack: true },
    { db: 3, connectionName: 'named', lazyConnect: true, readOnly: true },
    { enableReadyCheck: false, autoResendUnfulfilledCommands: true, reconnectOnError: () => 2 },
  ])('is the same for a client with %o', async (options) => {
    const client = server.client(options);
    const outcomes = await Promise.allSettled([
      increment(client, ['k'], [1]),
      increment(client, ['k'], [1]),
      script(`return {1, '2', false}`, { keys: 1 })(client, ['k'], []),
      script(`return redis.call('INCR', 'none', 'such')`, { keys: 1 })(client, ['k'], []),
    ]);
    expect(outcomes).toMatchObject([
      { value: 1 },
      { value: 2 },
      { value: [1, '2', null] },
      { reason: { code: 'ERR_STORE_FAILED' } },
    ]);
    await expect(server.client({ db: options.db ?? 0 }).get('k')).resolves.toBe('2');
  });

  test('honours the key prefix of the client', async () => {
    const prefixed = server.client({ keyPrefix: 'app:' });
    await increment(prefixed, ['k'], [2]);
    await expect(redis.get('app:k')).resolves.toBe('2');
  });
});

describe('calls of the same tick', () => {
  test('travel together, and each is charged, even on the same key', async () => {
    await increment(redis, ['warm'], [1]);
    const before = await evalshaCalls(redis);
    const replies = await Promise.all(
      Array.from({ length: 100 }, (_, index) => increment(redis, [`k${index % 2}`], [1])),
    );
    expect(replies.toSorted((a, b) => a - b)).toEqual(
      Array.from({ length: 100 }, (_, index) => Math.floor(index / 2) + 1),
    );
    expect((await evalshaCalls(redis)) - before).toBe(1);
  });

  test('leave at once when nothing is under way, without waiting for the turn of the loop to end', async () => {
    await increment(redis, ['k'], [1]);
    const call = increment(redis, ['k'], [1]);
    await afterMicrotasks();
    // Blocks the loop: what was not written by now cannot be counted by then.
    const ask = `const socket = require('node:net').connect(${server.port}, '${server.host}');
      socket.write('GET k\\r\\n');
      socket.once('data', (reply) => process.stdout.write(reply, () => process.exit()));`;
    const seen = execFileSync(process.execPath, ['-e', ask]);
    expect(seen.toString()).toBe('$1\r\n2\r\n');
    await expect(call).resolves.toBe(2);
  });

  test('wait for each other in this turn of the loop when others are under way', async () => {
    await increment(redis, ['warm'], [1]);
    const before = await evalshaCalls(redis);
    const calls = [increment(redis, ['k'], [1])];
    for (let count = 0; count < 5; count += 1) {
      await afterMicrotasks();
      calls.push(increment(redis, ['k'], [1]));
    }
    await expect(Promise.all(calls)).resolves.toEqual([1, 2, 3, 4, 5, 6]);
    expect((await evalshaCalls(redis)) - before).toBe(2);
  });

  test('travel together however many steps of promises lie before each', async () => {
    await increment(redis, ['warm'], [1]);
    const before = await evalshaCalls(redis);
    await Promise.all(
      Array.from({ length: 20 }, async (_, steps) => {
        for (let step = 0; step < steps; step += 1) await Promise.resolve();
        await increment(redis, ['k'], [1]);
      }),
    );
    expect((await evalshaCalls(redis)) - before).toBe(1);
  });

  test('travel in bounded batches', async () => {
    await increment(redis, ['warm'], [1]);
    const before = await evalshaCalls(redis);
    await Promise.all(Array.from({ length: 300 }, () => increment(redis, ['k'], [1])));
    expect((await evalshaCalls(redis)) - before).toBe(3);
    await expect(redis.get('k')).resolves.toBe('300');
  });

  test('fail alone', async () => {
    await redis.set('text', 'not a number');
    const [a, b, c] = await Promise.allSettled([
      increment(redis, ['k'], [1]),
      increment(redis, ['text'], [1]),
      increment(redis, ['k'], [1]),
    ]);
    expect([a, c]).toMatchObject([{ value: 1 }, { value: 2 }]);
    expect(b).toMatchObject({
      reason: { code: 'ERR_STORE_FAILED', outcome: 'unknown', message: /not an integer/ },
    });
  });

  test.each([
    ['a Lua error', `error('boom\\r\\nbang')`],
    ['an error object', `error({err = 'ERR boom  bang'})`],
    ['an error reply', `return redis.error_reply('ERR boom  bang')`],
    ['a misused global', 'boom = 1'],
  ])('reject with %s of their own', async (_, lua) => {
    await expect(script(lua, { keys: 1 })(redis, ['k'], [])).rejects.toThrow(
      /boom {2}bang|readonly table|global variable/,
    );
    await expect(increment(redis, ['k'], [1])).resolves.toBe(1);
  });
});

describe('misuse', () => {
  test.each([
    ['keys', () => script('', { keys: 0 })],
    ['keys', () => script('', { keys: 1.5 })],
    ['argsPerCall', () => script('', { keys: 1, argsPerCall: 0.5 })],
    ['timeoutMs', () => script('', { keys: 1, timeoutMs: 0 })],
    ['timeoutMs', () => script('', { keys: 1, timeoutMs: Number.NaN })],
    ['timeoutMs', () => script('', { keys: 1, timeoutMs: 2 ** 31 })],
    ['timeout', () => script('', { keys: 1, timeout: 50 } as never)],
    ['replies', () => script('', { keys: 1, replies: 'buffer' as never })],
    ['prelude', () => script('', { keys: 1, prelude: 5 as never })],
    ['lua', () => script(undefined as never, { keys: 1 })],
  ])('names the option %s', (option, misuse) => {
    expect(misuse).toThrow(TypeError);
    expect(misuse).toThrow(new RegExp(`^${option}: `));
  });

  test('of a call rejects it', async () => {
    await expect(increment(redis, [], [1])).rejects.toThrow(/^keys: expected 1, got 0/);
    await expect(increment(redis, ['k'], [Number.NaN])).rejects.toThrow(/^args: /);
    await expect(increment(redis, ['k'], [1], { timeoutMs: -1 })).rejects.toThrow(/^timeoutMs: /);
    await expect(increment(redis, ['k'], [1], { timeout: 50 } as never)).rejects.toThrow(
      /^timeout: there is no such option/,
    );
    for (const client of [undefined, {}, { duplicate: () => undefined }])
      await expect(increment(client as never, ['k'], [1])).rejects.toThrow(/^client: /);
    await expect(redis.exists('k')).resolves.toBe(0);
  });
});

describe('a server that forgets scripts', () => {
  test('is sent the script again after SCRIPT FLUSH, and nothing is charged twice', async () => {
    const reloads: unknown[] = [];
    const record = (message: unknown): void => void reloads.push(message);
    await increment(redis, ['k'], [1]);
    await redis.script('FLUSH');
    channel('countersign:redis:reload').subscribe(record);
    await expect(
      Promise.all([increment(redis, ['k'], [1]), increment(redis, ['k'], [1])]),
    ).resolves.toEqual([2, 3]);
    await expect(increment(redis, ['k'], [1])).resolves.toBe(4);
    channel('countersign:redis:reload').unsubscribe(record);
    expect(reloads).toHaveLength(1);
  });

  test('works again after a restart', async () => {
    await increment(redis, ['k'], [1]);
    await server.restart();
    await expect(increment(redis, ['k'], [1], { timeoutMs: 10_000 })).resolves.toBe(1);
  });
});

describe('a server that is gone', () => {
  test('rejects within the deadline, says that nothing ran, and comes back', async () => {
    await increment(redis, ['k'], [1]);
    await server.kill();
    const calls = Array.from({ length: 5 }, () => increment(redis, ['k'], [1], { timeoutMs: 50 }));
    for (const outcome of await Promise.allSettled(calls))
      expect(outcome).toMatchObject({ reason: { code: 'ERR_STORE_UNAVAILABLE' } });
    await expect(increment(redis, ['k'], [1], { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      outcome: 'not-run',
    });
    await server.restart();
    await expect(increment(redis, ['k'], [1], { timeoutMs: 10_000 })).resolves.toBe(1);
  });

  test('leaves no queued command behind', async () => {
    await server.kill();
    const calls = Array.from({ length: 50 }, () => increment(redis, ['k'], [1], { timeoutMs: 20 }));
    await Promise.allSettled(calls);
    await server.restart();
    await increment(redis, ['other'], [1], { timeoutMs: 10_000 });
    await expect(server.client().get('k')).resolves.toBeNull();
  });

  test('refuses at once when too many calls wait already', async () => {
    await server.kill();
    const refusedAtOnce: unknown[] = [];
    const calls = Array.from({ length: 11_000 }, () =>
      increment(redis, ['k'], [1], { timeoutMs: 300 }).catch((error: unknown) => {
        if (/calls wait/.test(String(error))) refusedAtOnce.push(error);
      }),
    );
    await Promise.all(calls);
    expect(refusedAtOnce.length).toBeGreaterThanOrEqual(1000);
    expect(refusedAtOnce[0]).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', outcome: 'not-run' });
    await server.restart();
    await expect(increment(redis, ['k'], [1], { timeoutMs: 10_000 })).resolves.toBe(1);
  });

  test('a client that was closed runs nothing', async () => {
    await increment(redis, ['k'], [1]);
    const closing = new Promise((resolve) => redis.once('end', resolve));
    await redis.quit();
    await closing;
    await expect(increment(redis, ['k'], [1])).rejects.toMatchObject({
      code: 'ERR_STORE_UNAVAILABLE',
      outcome: 'not-run',
    });
  });

  test('a client that was closed takes its connection with it', async () => {
    const other = server.client();
    const connectionName = 'to-be-closed';
    const connections = async (): Promise<number> =>
      String(await other.client('LIST')).split(`name=${connectionName} `).length - 1;
    const mine = server.client({ connectionName });
    await increment(mine, ['k'], [1]);
    expect(await connections()).toBe(2);
    mine.disconnect();
    await expect.poll(connections, { timeout: 10_000 }).toBe(0);
  });
});

test('says why there is no connection, and connects with the password that the client has now', async () => {
  await redis.call('ACL', 'SETUSER', 'app', 'on', '>first', '~*', '+@all');
  const client = server.client({ username: 'app', password: 'first' });
  await increment(client, ['k'], [1]);
  await redis.call('ACL', 'SETUSER', 'app', '<first', '>second');
  await redis.call('CLIENT', 'KILL', 'USER', 'app');
  // It may be sent before the end of the connection is seen.
  await increment(client, ['other'], [1], { timeoutMs: 100 }).catch(() => undefined);
  const refused: unknown = await increment(client, ['k'], [1], { timeoutMs: 200 }).catch(
    (error: unknown) => error,
  );
  expect(refused).toMatchObject({ outcome: 'not-run', cause: { message: /WRONGPASS/ } });
  expect(inspect(refused, { depth: 9, showHidden: true })).not.toContain('first');
  client.options.password = 'second';
  await expect(increment(client, ['k'], [1])).resolves.toBe(2);
});

describe('a server that does not answer', () => {
  test('times out with an unknown outcome, then takes no more until it answers again', async () => {
    await increment(redis, ['k'], [1]);
    server.pause();
    try {
      const late = increment(redis, ['k'], [1], { timeoutMs: 50 });
      await expect(late).rejects.toMatchObject({ code: 'ERR_STORE_TIMEOUT', outcome: 'unknown' });
      const held = increment(redis, ['k'], [1], { timeoutMs: 50 });
      await expect(held).rejects.toMatchObject({
        code: 'ERR_STORE_UNAVAILABLE',
        outcome: 'not-run',
      });
    } finally {
      server.resume();
    }
    // The late call took effect after all, as its outcome said it might; the held one did not.
    await expect(increment(redis, ['k'], [1], { timeoutMs: 10_000 })).resolves.toBe(3);
  });

  test.each([
    ['calls', 61_000, ''],
    ['bytes', 140, 'x'.repeat(2 ** 20)],
  ])('is sent a bounded number of %s, whatever their deadlines', async (_, count, ballast) => {
    const tally: Script<[string], number> = script(`return redis.call('INCR', KEYS[1])`, {
      keys: 1,
      timeoutMs: 60_000,
    });
    // All of it may take longer than a server may be silent.
    const patient = server.client({ socketTimeout: 60_000 });
    await tally(patient, ['k'], ['']);
    server.pause();
    let refused = 0;
    const calls = Array.from({ length: count }, () =>
      tally(patient, ['k'], [ballast]).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE', outcome: 'not-run' });
        refused += 1;
      }),
    );
    await expect.poll(() => refused).toBeGreaterThan(5);
    server.resume();
    await Promise.all(calls);
    await expect(redis.get('k')).resolves.toBe(String(1 + count - refused));
  });

  test('is not sent again what has timed out, when it turns out not to know the script', async () => {
    await increment(redis, ['k'], [1]);
    await redis.script('FLUSH');
    server.pause();
    await expect(increment(redis, ['late'], [1], { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'ERR_STORE_TIMEOUT',
    });
    server.resume();
    await increment(redis, ['k'], [1], { timeoutMs: 10_000 });
    await expect(redis.exists('late')).resolves.toBe(0);
  });

  test('holds each call up until its own deadline, whichever was made first', async () => {
    await increment(redis, ['k'], [1]);
    server.pause();
    const order: number[] = [];
    await Promise.all(
      [300, 60, 10_000, 140].map((timeoutMs) =>
        increment(redis, ['k'], [1], { timeoutMs })
          .catch(() => order.push(timeoutMs))
          .finally(() => {
            if (order.length === 3) server.resume();
          }),
      ),
    );
    expect(order).toEqual([60, 140, 300]);
  });

  test('DEBUG SLEEP is survived', async () => {
    await increment(redis, ['k'], [1]);
    await server.sleep(200);
    await expect(increment(redis, ['k'], [1], { timeoutMs: 40 })).rejects.toBeInstanceOf(
      StoreUnavailableError,
    );
    await expect(increment(redis, ['after'], [1], { timeoutMs: 10_000 })).resolves.toBe(1);
  });

  test('nothing is ever sent a second time: an answer that is lost with its connection stays lost', async () => {
    const proxy = await startFaultProxy(server);
    const client = server.client({ port: proxy.port, host: proxy.host });
    try {
      await increment(client, ['k'], [1]);
      proxy.set('toClient', { blackhole: true });
      const lost = increment(client, ['k'], [1]);
      const rejected = expect(lost).rejects.toMatchObject({
        code: 'ERR_STORE_UNAVAILABLE',
        outcome: 'unknown',
      });
      await expect.poll(() => redis.get('k')).toBe('2');
      proxy.reset();
      await rejected;
      await proxy.heal();
      await expect(increment(client, ['k'], [1], { timeoutMs: 10_000 })).resolves.toBe(3);
    } finally {
      client.disconnect();
      await proxy.stop();
    }
  });
});

test('errors carry no argument of the call', async () => {
  const failing: Script<[string], never> = script(`return redis.call('INCR', KEYS[1], ARGV[1])`, {
    keys: 1,
  });
  const error: unknown = await failing(redis, ['k'], ['s3cret']).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(StoreUnavailableError);
  expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('s3cret');
});

test('reports batches and failures to who listens', async () => {
  const events: unknown[] = [];
  const record = (message: unknown, name: string | symbol): void =>
    void events.push([name, message]);
  const names = ['countersign:redis:batch', 'countersign:redis:failure'];
  await increment(redis, ['k'], [1]);
  for (const name of names) channel(name).subscribe(record);
  await Promise.all([increment(redis, ['k'], [1]), increment(redis, ['k'], [1])]);
  server.pause();
  await increment(redis, ['k'], [1], { timeoutMs: 20 }).catch(() => undefined);
  server.resume();
  for (const name of names) channel(name).unsubscribe(record);
  expect(events).toEqual([
    [
      'countersign:redis:batch',
      { script: expect.any(String), calls: 2, durationMs: expect.any(Number) },
    ],
    [
      'countersign:redis:failure',
      { script: expect.any(String), calls: 1, code: 'ERR_STORE_TIMEOUT', outcome: 'unknown' },
    ],
  ]);
});
