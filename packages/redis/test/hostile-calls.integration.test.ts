import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Script, script } from '../src/index.ts';

const increment: Script<[by: number], number> = script(
  `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  { keys: 1, timeoutMs: 2000 },
);

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

describe('a call that is no good is refused and harms no call of its tick', () => {
  test.each([
    ['null', null],
    ['undefined', undefined],
    ['a boolean', true],
    ['a bigint', 1n],
    ['an object', { toString: () => '1' }],
    ['an array', ['1', '2']],
    ['NaN', Number.NaN],
    ['infinity', Number.POSITIVE_INFINITY],
  ])('an argument that is %s', async (_, argument) => {
    const [before, bad, after] = await Promise.allSettled([
      increment(redis, ['a'], [1]),
      increment(redis, ['bad'], [argument as never]),
      increment(redis, ['b'], [2]),
    ]);
    expect(bad).toMatchObject({ reason: { name: 'TypeError', message: /^args: / } });
    expect([before, after]).toMatchObject([{ value: 1 }, { value: 2 }]);
    await expect(redis.keys('*')).resolves.toEqual(expect.arrayContaining(['a', 'b']));
  });

  test.each([
    ['undefined', undefined],
    ['a number', 7],
    ['bytes', Buffer.from('k')],
    ['a list', ['k', 'l']],
  ])('a key that is %s', async (_, key) => {
    const [bad, good] = await Promise.allSettled([
      increment(redis, [key as never], [1]),
      increment(redis, ['b'], [2]),
    ]);
    expect(bad).toMatchObject({ reason: { name: 'TypeError', message: /^keys: / } });
    expect(good).toMatchObject({ value: 2 });
  });

  test('more arguments than Lua can unpack at once', async () => {
    const count: Script<string[], number> = script('return #ARGV', { keys: 1 });
    const many = Array.from({ length: 20_000 }, String);
    await expect(
      Promise.all([count(redis, ['a'], ['x']), count(redis, ['b'], many), count(redis, ['c'], [])]),
    ).resolves.toEqual([1, 20_000, 0]);
  });

  test('more text than Redis takes', async () => {
    const length: Script<string[], number> = script('return #ARGV', { keys: 1 });
    const half = 'x'.repeat(2 ** 26);
    const [bad, good] = await Promise.allSettled([
      length(redis, ['a'], [half, half, 'x']),
      length(redis, ['b'], []),
    ]);
    expect(bad).toMatchObject({ reason: { name: 'TypeError', message: /^args: / } });
    expect(good).toMatchObject({ value: 0 });
  });

  test('more arguments than Redis takes', async () => {
    const count: Script<string[], number> = script('return #ARGV', { keys: 1 });
    await count(redis, ['k'], []);
    const [bad, good] = await Promise.allSettled([
      count(
        redis,
        ['a'],
        Array.from({ length: 2 ** 20 }, () => ''),
      ),
      count(redis, ['b'], []),
    ]);
    expect(bad).toMatchObject({ reason: { name: 'TypeError', message: /^args: / } });
    expect(good).toMatchObject({ value: 0 });
  });
});

test('what the caller does to its arrays after the call changes nothing', async () => {
  const keys = ['mine'];
  const args: [number] = [1];
  const call = increment(redis, keys, args);
  keys[0] = 'other';
  (args as unknown[]).push('x');
  await expect(Promise.all([call, increment(redis, ['b'], [2])])).resolves.toEqual([1, 2]);
  await expect(redis.exists('other')).resolves.toBe(0);
});

describe('a body', () => {
  test('sees and may spoil only what is its own', async () => {
    const spoil: Script<[string], [string, string]> = script(
      `local seen = {KEYS[1], ARGV[1]}
       KEYS[1], ARGV[1], KEYS[2], ARGV[2] = 'spoilt', 'spoilt', 'spoilt', 'spoilt'
       return seen`,
      { keys: 1 },
    );
    await expect(spoil(redis, ['k'], ['1'])).resolves.toEqual(['k', '1']);
    await expect(
      Promise.all([spoil(redis, ['a'], ['1']), spoil(redis, ['b'], ['2'])]),
    ).resolves.toEqual([
      ['a', '1'],
      ['b', '2'],
    ]);
  });

  test.each([
    ['nil', 'return nil'],
    ['false', 'return false'],
    ['a list with a hole', `return {1, nil, 3}`],
    ['an empty list', 'return {}'],
    ['a list of lists', `return {{1, 'x'}, {false}, {}}`],
    ['a status', `return {ok = 'FINE'}`],
    ['many values', 'return 1, 2, 3'],
    ['its arguments', 'return {#KEYS, #ARGV, KEYS[1], ARGV[1], ARGV[2]}'],
    ['an error', `return {err = 'ERR own'}`],
    ['a raised error', `error('own')`],
    ['a raised table', `error({err = 'ERR own'})`],
    ['a raised nil', 'error()'],
    ['a failed command', `return redis.call('INCR')`],
  ])('that returns %s says the same alone and in company', async (_, lua) => {
    const body: Script<[string, string], unknown> = script(lua, { keys: 1 });
    const outcome = (call: Promise<unknown>): Promise<unknown> =>
      call.catch(({ code, outcome: known, message }) => ({ code, known, message }));
    const alone = await outcome(body(redis, ['k'], ['', 'é']));
    const together = await Promise.all([1, 2, 3].map(() => outcome(body(redis, ['k'], ['', 'é']))));
    expect(together).toEqual([alone, alone, alone]);
  });

  // `redis.error_reply` is the script's own word: only Redis knows whether it refused to run something.
  test.each([
    'NOSCRIPT No luck',
    'MOVED 1 127.0.0.1:1',
    'ASK 1 127.0.0.1:1',
    'TRYAGAIN later',
    'CLUSTERDOWN it seems',
    'BUSY come later',
    'LOADING come later',
    'MASTERDOWN no',
    'READONLY no',
  ])('that answers %s of its own ran once, and is not said not to have run', async (message) => {
    const lua = `redis.call('INCR', KEYS[1]) return redis.error_reply('${message}')`;
    const own = script(lua, { keys: 1 });
    await expect(own(redis, ['k'], [])).rejects.toMatchObject({ outcome: 'unknown' });
    const company = await Promise.allSettled([own(redis, ['k'], []), own(redis, ['k'], [])]);
    expect(company).toMatchObject([
      { reason: { code: 'ERR_STORE_FAILED', outcome: 'unknown' } },
      { reason: { code: 'ERR_STORE_FAILED', outcome: 'unknown' } },
    ]);
    await expect(redis.get('k')).resolves.toBe('3');
  });

  test('that loops over its calls and refuses to run runs once all the same', async () => {
    const own = script(`redis.call('INCR', KEYS[1]) return redis.error_reply('NOSCRIPT mine')`, {
      keys: 1,
      argsPerCall: 0,
    });
    await expect(own(redis, ['k'], [], { timeoutMs: 200 })).rejects.toMatchObject({
      code: 'ERR_STORE_FAILED',
      outcome: 'unknown',
    });
    await expect(redis.get('k')).resolves.toBe('1');
  });

  test.each([
    ['nothing', ''],
    ['a number', 'return 7'],
    ['text', `return 'text'`],
    ['too few replies', 'return {1}'],
    ['too many replies', 'return {1, 2, 3}'],
    ['replies with a hole', 'return {nil, 2}'],
  ])('that answers its calls with %s fails them all', async (_, lua) => {
    const own = script(lua, { keys: 1, argsPerCall: 0 });
    const outcomes = await Promise.allSettled([own(redis, ['a'], []), own(redis, ['b'], [])]);
    const failed = { reason: { code: 'ERR_STORE_FAILED', outcome: 'unknown' } };
    expect(outcomes).toMatchObject([failed, failed]);
    await expect(increment(redis, ['k'], [1])).resolves.toBe(1);
  });
});

test('an answer that came while the loop was blocked counts, though its time is over', async () => {
  await increment(redis, ['k'], [1]);
  const call = increment(redis, ['k'], [1], { timeoutMs: 50 });
  for (let round = 0; round < 3; round += 1) await new Promise(process.nextTick);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  await expect(call).resolves.toBe(2);
});
