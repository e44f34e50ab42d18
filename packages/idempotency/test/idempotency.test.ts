import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import { createIdempotency, type Idempotency, type JobOptions } from '../src/idempotency.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import type { IdempotencyStore } from '../src/store.ts';
import { record } from './events.ts';

let store: IdempotencyStore;
let jobs: Idempotency;

function create(options: Partial<JobOptions> = {}): Idempotency {
  return createIdempotency({ store, scope: 'invoices', ...options });
}

beforeEach(() => {
  vi.useFakeTimers();
  store = memoryIdempotencyStore();
  jobs = create();
});

afterEach(() => {
  vi.useRealTimers();
});

const code = (suffix: string): object =>
  expect.objectContaining({ code: `ERR_IDEMPOTENCY_${suffix}` });

describe('run', () => {
  test('runs once and gives every caller the value', async () => {
    const handler = vi.fn(async () => ({ invoice: 7 }));
    const first = await jobs.run('k', 'message', handler);
    const second = await jobs.run('k', 'message', handler);
    expect(first).toEqual({ value: { invoice: 7 }, replayed: false });
    expect(second).toEqual({ value: { invoice: 7 }, replayed: true });
    expect(handler).toHaveBeenCalledTimes(1);
    expectTypeOf(first.value).toEqualTypeOf<{ invoice: number }>();
  });

  test.each([undefined, null, 0, '', [1, { a: 'ü' }]])('gives back %j', async (value) => {
    await jobs.run('k', '', () => value);
    expect(await jobs.run('k', '', () => 'again')).toEqual({ value, replayed: true });
  });

  test('tells the handler its key, a fence that grows, and a signal', async () => {
    const fences: (number | undefined)[] = [];
    for (const _ of [1, 2]) {
      await jobs.run('k', '', ({ key, fence, signal, notExecuted }) => {
        expect(key).toBe('k');
        expect(signal.aborted).toBe(false);
        fences.push(fence);
        notExecuted();
      });
    }
    expect(fences[1]).toBeGreaterThan(fences[0] as number);
  });

  test('refuses the same key for something else', async () => {
    await jobs.run('k', 'message', () => 1);
    await expect(jobs.run('k', Buffer.from('other'), () => 1)).rejects.toEqual(code('KEY_REUSED'));
  });

  test('keeps scopes apart', async () => {
    await jobs.run('k', '', () => 1);
    expect(await create({ scope: 'mails' }).run('k', '', () => 2)).toEqual({
      value: 2,
      replayed: false,
    });
  });

  test('refuses, or waits for, a run in progress', async () => {
    const first = jobs.run('k', '', async () => {
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return 'done';
    });
    await expect(jobs.run('k', '', () => 'twice')).rejects.toEqual(code('IN_PROGRESS'));
    const waiting = create({ waitMs: 5000 }).run('k', '', () => 'twice');
    await vi.advanceTimersByTimeAsync(2000);
    expect(await waiting).toEqual({ value: 'done', replayed: true });
    await first;
  });
});

test('a run that is told to stop waiting does not run', async () => {
  const first = jobs.run('k', '', async ({ notExecuted }) => {
    await new Promise((resolve) => setTimeout(resolve, 10));
    notExecuted();
  });
  const controller = new AbortController();
  const handler = vi.fn();
  const waiting = create({ waitMs: 5000 }).run('k', '', handler, { signal: controller.signal });
  await vi.advanceTimersByTimeAsync(15);
  await first;
  const stopped = expect(waiting).rejects.toEqual(code('IN_PROGRESS'));
  controller.abort();
  await stopped;
  expect(handler).not.toHaveBeenCalled();
});

describe('a handler that throws', () => {
  const boom = async (): Promise<never> => Promise.reject(new Error('boom'));

  test('passes its error on and leaves the outcome unknown', async () => {
    await expect(jobs.run('k', '', boom)).rejects.toThrow('boom');
    await expect(jobs.run('k', '', () => 1)).rejects.toEqual(code('OUTCOME_UNKNOWN'));
  });

  test('is run again when told so', async () => {
    const rerunning = create({ onUnknown: 'rerun' });
    await expect(rerunning.run('k', '', boom)).rejects.toThrow('boom');
    expect(await rerunning.run('k', '', () => 2)).toEqual({ value: 2, replayed: false });
  });

  // A row of a database is no outcome: { value: row } is.
  test.each([undefined, null, 'retry', 7, { id: 1 }, [1]])(
    'stays unknown when the function says %j',
    async (decided) => {
      const deciding = create({ onUnknown: async () => decided as never });
      await expect(deciding.run('k', '', boom)).rejects.toThrow('boom');
      await expect(deciding.run('k', '', () => 1)).rejects.toThrow(/^onUnknown: /);
      await expect(jobs.run('k', '', () => 1)).rejects.toEqual(code('OUTCOME_UNKNOWN'));
    },
  );

  test('having said that nothing was executed, frees the key', async () => {
    await expect(
      jobs.run('k', '', ({ notExecuted }) => {
        notExecuted();
        throw new Error('invalid');
      }),
    ).rejects.toThrow('invalid');
    expect((await jobs.run('k', '', () => 1)).replayed).toBe(false);
  });

  test('is reconciled by a function that found the value', async () => {
    const reconciling = create({ onUnknown: async ({ key }) => ({ value: `found ${key}` }) });
    await expect(reconciling.run('k', '', boom)).rejects.toThrow('boom');
    for (const _ of [1, 2]) {
      expect(await reconciling.run('k', '', () => 'run')).toEqual({
        value: 'found k',
        replayed: true,
      });
    }
  });

  test.each([
    ['refuse', code('OUTCOME_UNKNOWN')],
    ['rerun', { value: 'again', replayed: false }],
  ] as const)('is left to a function, which may say %s', async (decision, expected) => {
    const deciding = create({ onUnknown: async () => decision });
    await expect(deciding.run('k', '', boom)).rejects.toThrow('boom');
    const again = await deciding.run('k', '', () => 'again').catch((error: Error) => error);
    expect(again).toEqual(expected);
  });

  test('because its value is no JSON leaves the outcome unknown: it did run', async () => {
    await expect(jobs.run('k', '', () => 1n)).rejects.toThrow(TypeError);
    await expect(jobs.run('k', '', () => 1)).rejects.toEqual(code('OUTCOME_UNKNOWN'));
  });
});

test('a result that is too large is not kept, and not computed twice', async () => {
  const small = create({ maxResultBytes: '{"value":"x"}'.length });
  await small.run('fits', '', () => 'x');
  expect(await small.run('fits', '', () => 'y')).toEqual({ value: 'x', replayed: true });
  expect((await small.run('k', '', () => 'x'.repeat(50))).value).toHaveLength(50);
  await expect(small.run('k', '', () => 1)).rejects.toEqual(code('RESULT_NOT_STORED'));
});

test('a result may take a mebibyte unless told otherwise', async () => {
  const most = 2 ** 20 - '{"value":""}'.length;
  await jobs.run('fits', '', () => 'x'.repeat(most));
  expect((await jobs.run('fits', '', () => 'y')).value).toHaveLength(most);
  await jobs.run('k', '', () => 'x'.repeat(most + 1));
  await expect(jobs.run('k', '', () => 1)).rejects.toEqual(code('RESULT_NOT_STORED'));
});

describe('a store that fails', () => {
  const down = async (): Promise<never> => Promise.reject(new Error('down'));

  test('stops the run before it begins', async () => {
    store = { ...store, begin: down };
    const handler = vi.fn();
    await expect(create().run('k', '', handler)).rejects.toEqual(code('STORE_UNAVAILABLE'));
    expect(handler).not.toHaveBeenCalled();
  });

  test('does not stop it when the user chose so', async () => {
    store = { ...store, begin: down };
    const run = create({ onStoreError: 'open' }).run('k', '', ({ fence }) => fence ?? 'none');
    expect(await run).toEqual({ value: 'none', replayed: false });
  });

  test('at completion is reported, and asked again', async () => {
    const complete = vi.fn(store.complete).mockRejectedValueOnce(new Error('down'));
    store = { ...store, complete };
    await expect(create().run('k', '', () => 1)).rejects.toEqual(code('STORE_UNAVAILABLE'));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(await create().run('k', '', () => 2)).toEqual({ value: 1, replayed: true });
  });

  test('that certifies that nothing was changed is not bothered again', async () => {
    const release = vi.fn(store.release);
    const error = Object.assign(new Error('down'), { outcome: 'not-run' });
    store = { ...store, release, begin: async () => Promise.reject(error) };
    await expect(create().run('k', '', () => 1)).rejects.toEqual(code('STORE_UNAVAILABLE'));
    expect(release).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });
});

test('a run whose lease was taken over is told so, and its value does not count', async () => {
  const rerunning = create({ onUnknown: 'rerun' });
  const stale = rerunning.run('k', '', async ({ signal }) => {
    vi.setSystemTime(Date.now() + 30_000); // the process stood still
    await rerunning.run('k', '', () => 'newer');
    await vi.advanceTimersByTimeAsync(10_000);
    expect(signal.reason).toEqual(code('LEASE_LOST'));
    return 'stale';
  });
  await expect(stale).rejects.toEqual(code('LEASE_LOST'));
  expect((await jobs.run('k', '', () => 'again')).value).toBe('newer');
});

test('what is stored can be encrypted', async () => {
  const encrypted = create({ encryptionKeys: [Buffer.alloc(32, 7)] });
  await encrypted.run('k', '', () => 'secret');
  expect(await encrypted.run('k', '', () => 1)).toEqual({ value: 'secret', replayed: true });
  const error = await jobs.run('k', '', () => 1).catch((thrown: Error) => thrown);
  expect(error).toEqual(code('RECORD_UNREADABLE'));
  expect((error as Error).cause).toBeInstanceOf(Error);
});

test.each(['201\n\nof a guard', 'null'])(
  'an outcome that is none of a run is unreadable, and nothing is run: %j',
  async (payload) => {
    store = { ...store, begin: async () => completed };
    const completed = {
      state: 'completed',
      payload: Buffer.from(payload),
      expiresInMs: 1,
    } as const;
    const handler = vi.fn();
    await expect(create().run('k', '', handler)).rejects.toEqual(code('RECORD_UNREADABLE'));
    expect(handler).not.toHaveBeenCalled();
  },
);

test('what became of a run is published', async () => {
  const { events, stop } = record();
  await jobs.run('k', '', () => 1);
  await jobs.run('k', '', () => 1);
  await jobs.run('k', 'other', () => 1).catch(() => {});
  stop();
  const id = expect.stringMatching(/^[\w-]{43}$/);
  const fence = expect.any(Number);
  expect(events).toEqual([
    ['started', { id, fence, recovered: false }],
    ['completed', { id, fence, bytes: '{"value":1}'.length }],
    ['replayed', { id }],
    ['refused', { id, code: 'ERR_IDEMPOTENCY_KEY_REUSED' }],
  ]);
});

test('a key that cannot be had keeps the handler from running, and leaves no timer behind', async () => {
  const sealed = create({ encryptionKeys: [async () => Promise.reject(new Error('vault'))] });
  const handler = vi.fn();
  await expect(sealed.run('k', '', handler)).rejects.toEqual(code('STORE_UNAVAILABLE'));
  expect(handler).not.toHaveBeenCalled();
  expect(vi.getTimerCount()).toBe(0);
  expect((await jobs.run('k', '', () => 1)).replayed).toBe(false);
});

test('a store that never answers does not keep the signal from firing', async () => {
  store = { ...store, renew: async () => new Promise(() => {}) };
  const run = create().run('k', '', async ({ signal }) => {
    await vi.advanceTimersByTimeAsync(60_000);
    return signal.aborted;
  });
  expect((await run).value).toBe(true);
});

test.each<[string, unknown, unknown]>([
  ['fingerprint', undefined, () => 1],
  ['fingerprint', { amount: 100 }, () => 1],
  ['fingerprint', () => 1, undefined],
  // Of these, a part or nothing at all would be told apart.
  ['fingerprint', new ArrayBuffer(8), () => 1],
  ['fingerprint', new Uint16Array(8), () => 1],
  ['handler', 'message', undefined],
])('a mistake in %s is reported by name before anything has begun', async (name, body, handler) => {
  const run = jobs.run('k', body as never, handler as never);
  await expect(run).rejects.toThrow(TypeError);
  await expect(run).rejects.toThrow(new RegExp(`^${name}`));
  expect((await jobs.run('k', 'message', () => 1)).replayed).toBe(false);
});

test('mistakes are reported by name', async () => {
  expect(() => create({ scope: '' })).toThrow(/^scope/);
  expect(() => create({ onUnknown: 'retry' as never })).toThrow(/^onUnknown/);
  expect(() => create({ maxResultBytes: -1 })).toThrow(/^maxResultBytes/);
  expect(() => create({ maxResultByte: 1 } as never)).toThrow(/^maxResultByte: /);
  await expect(jobs.run('', '', () => 1)).rejects.toThrow(/^key/);
});
