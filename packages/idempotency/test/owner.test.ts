import type * as crypto from 'node:crypto';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { memoryIdempotencyStore } from '../src/memory.ts';
import { passed, refused, requestOf } from './request.ts';

const randomBytes = vi.fn((size: number) => Buffer.alloc(size, 7));

beforeEach(() => {
  vi.useFakeTimers();
  vi.doMock('node:crypto', async (original) => ({
    ...(await original<typeof crypto>()),
    randomBytes,
  }));
});

afterEach(() => {
  vi.doUnmock('node:crypto');
  vi.useRealTimers();
});

/** The package as a process has it that was started from a snapshot: what it computed before, all of them have. */
async function restored(): Promise<typeof import('../src/guard.ts')> {
  vi.resetModules();
  return await import('../src/guard.ts');
}

test('processes that were started from one snapshot do not take each other for themselves', async () => {
  const store = memoryIdempotencyStore();
  const options = { store, principal: () => 'alice' };
  const [first, second] = [await restored(), await restored()];
  const request = () => requestOf({ key: 'k' });
  passed(await first.idempotencyGuard(options)(request(), {}));
  vi.setSystemTime(Date.now() + 1);
  expect(refused(await second.idempotencyGuard(options)(request(), {})).status).toBe(409);
});

test('a snapshot that is taken before the first request holds no name', async () => {
  randomBytes.mockClear();
  const { idempotencyGuard } = await restored();
  const guard = idempotencyGuard({ store: memoryIdempotencyStore(), principal: () => 'alice' });
  expect(randomBytes).not.toHaveBeenCalled();
  passed(await guard(requestOf({ key: 'k' }), {}));
  expect(randomBytes).toHaveBeenCalledTimes(1);
});
