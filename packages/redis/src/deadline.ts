import { StoreUnavailableError } from './errors.ts';

/**
 * Bounds any promise of a store: rejects with `ERR_STORE_TIMEOUT` when it has not settled after `timeoutMs`.
 * The operation itself goes on, so its outcome is unknown; what becomes of it later is ignored.
 */
export async function withDeadline<T>(operation: Promise<T>, timeoutMs: number): Promise<T> {
  assertTimeout(timeoutMs);
  let timer: NodeJS.Timeout | undefined;
  const expired = new Promise<never>((_, reject) => {
    // Not unref'd: somebody waits for this answer, and it comes within `timeoutMs`.
    timer = setTimeout(() => reject(timeoutError(timeoutMs)), timeoutMs);
  });
  try {
    return await Promise.race([operation, expired]);
  } finally {
    clearTimeout(timer);
  }
}

export function timeoutError(timeoutMs: number): StoreUnavailableError {
  return new StoreUnavailableError(
    'ERR_STORE_TIMEOUT',
    `no answer within ${timeoutMs} ms; whether the operation took effect is unknown`,
  );
}

const longestTimerMs = 2 ** 31 - 1;

export function assertTimeout(timeoutMs: number): void {
  if (!(timeoutMs > 0 && timeoutMs <= longestTimerMs))
    throw new TypeError(`timeoutMs: expected milliseconds from 1 to ${longestTimerMs}`);
}
