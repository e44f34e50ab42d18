import { assertKnown, type OptionNames } from '@countersign/options';
import { acquire, type Recovery } from './acquire.ts';
import { IdempotencyError, type IdempotencyErrorCode } from './errors.ts';
import { channels } from './events.ts';
import { fingerprintOf, identityOf } from './identity.ts';
import type { Lease } from './lease.ts';
import { assertFunction } from './options.ts';
import {
  assertInteger,
  assertOnUnknown,
  commonOptions,
  type IdempotencyOptions,
  settingsOf,
} from './settings.ts';

/** What a handler learns about its own execution. */
export interface Execution {
  /** The key; `undefined` when the request came without one and none is required. */
  readonly key: string | undefined;
  /**
   * Grows with every execution under this key. Write it beside your own data and refuse a smaller one
   * (`… WHERE fence <= $1`), and an owner that lost its lease cannot write any more. A whole number of milliseconds'
   * magnitude: it needs a 64-bit column. `undefined` when the request is not protected: without a key, or because the
   * store failed under `onStoreError: 'open'`.
   */
  readonly fence: number | undefined;
  /**
   * Aborts when the lease is lost, or given up because the caller left long ago, and somebody else may run the request.
   * It does not abort when the caller leaves.
   */
  readonly signal: AbortSignal;
  /**
   * Says that nothing was executed (invalid input, 401, 429, …): the outcome is not stored and the key is free again.
   * Call it before the outcome is given.
   */
  readonly notExecuted: () => void;
}

/** A request whose earlier execution never said how it ended. */
export interface UnknownOutcome {
  readonly key: string;
  /** The fence of this look at it; the earlier execution had a smaller one. */
  readonly fence: number;
}

/** Options of {@link createIdempotency}. */
export interface JobOptions extends IdempotencyOptions {
  /** Keeps the keys of different jobs apart that share a store, e.g. `invoices`. */
  readonly scope: string;
  /**
   * When an earlier execution threw, or died, without saying how it ended: `refuse` (default) throws
   * `ERR_IDEMPOTENCY_OUTCOME_UNKNOWN`, `rerun` runs the handler again, and a function finds out and decides, or gives
   * the value to store. While it runs nobody else runs or decides.
   */
  readonly onUnknown?:
    | 'refuse'
    | 'rerun'
    | ((outcome: UnknownOutcome) => JobRecovery | Promise<JobRecovery>);
  /** A larger result (as JSON) is not kept: the key stays used, and a second run throws. Default 1 MiB. */
  readonly maxResultBytes?: number;
}

export type JobRecovery = 'refuse' | 'rerun' | { readonly value: unknown };

/** The value, and whether it comes from an earlier run. */
export interface RunResult<T> {
  readonly value: T;
  readonly replayed: boolean;
}

export interface Idempotency {
  /**
   * Runs `handler` once per key and gives every caller its value, which must survive JSON. When the handler throws, its
   * outcome is unknown, unless it called `notExecuted()`; the error is passed on.
   * @param fingerprint - what the key is used for, e.g. the message's body: the same key with another one is refused.
   * @throws IdempotencyError `ERR_IDEMPOTENCY_KEY_REUSED`, `…_IN_PROGRESS`, `…_OUTCOME_UNKNOWN`,
   * `…_RESULT_NOT_STORED`, `…_RECORD_UNREADABLE`, `…_LEASE_LOST` or `…_STORE_UNAVAILABLE`.
   * @throws TypeError when the key is no text, the fingerprint neither text nor bytes, or the handler no function.
   */
  run<T>(
    key: string,
    fingerprint: string | Uint8Array,
    handler: (execution: Execution) => T | Promise<T>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<RunResult<T>>;
}

const noResult = Buffer.from('-');

const known: OptionNames<JobOptions> = {
  ...commonOptions,
  scope: true,
  onUnknown: true,
  maxResultBytes: true,
};

/**
 * Once, or a clear answer why not, for queue consumers, scheduled jobs and webhook handlers.
 * @throws TypeError naming the option that is wrong, or that there is not.
 */
export function createIdempotency(options: JobOptions): Idempotency {
  assertKnown(options, known);
  const settings = settingsOf(options);
  const { scope, onUnknown = 'refuse', maxResultBytes = 1024 * 1024 } = options;
  if (typeof scope !== 'string' || scope === '') throw new TypeError('scope: expected a name');
  assertOnUnknown(onUnknown);
  assertInteger('maxResultBytes', maxResultBytes, 0);

  const encode = (value: unknown): Uint8Array => {
    const bytes = Buffer.from(JSON.stringify({ value }));
    return bytes.byteLength > maxResultBytes ? noResult : bytes;
  };
  const recoveryOf = (decided: JobRecovery): Recovery => {
    if (decided === 'refuse' || decided === 'rerun') return decided;
    // Without types it may be the value itself, and that would be lost.
    const isValue = typeof decided === 'object' && decided !== null && 'value' in decided;
    if (isValue) return { payload: encode(decided.value) };
    throw new TypeError("onUnknown: expected it to give 'refuse', 'rerun' or { value }");
  };

  return {
    async run(key, fingerprint, handler, { signal } = {}) {
      if (typeof key !== 'string' || key === '') throw new TypeError('key: expected a string');
      const body = typeof fingerprint === 'string' ? Buffer.from(fingerprint) : fingerprint;
      if (!(body instanceof Uint8Array)) {
        throw new TypeError('fingerprint: expected a string or bytes, such as the message');
      }
      // Found out only when it is called, it would leave an outcome that nobody knows.
      assertFunction('handler', handler);
      const id = identityOf('job', scope, key);
      const acquired = await acquire(settings, {
        id,
        fingerprint: fingerprintOf(scope, key, { method: '', target: '', contentType: '', body }),
        onUnknown:
          typeof onUnknown === 'function'
            ? async (fence) => recoveryOf(await onUnknown({ key, fence }))
            : onUnknown,
        signal: () => signal,
      });
      switch (acquired.state) {
        case 'acquired':
          return await execute(key, acquired.lease, handler, (value) =>
            settings.seal.seal(encode(value), id),
          );
        case 'completed':
          return replay(id, acquired.payload);
        case 'store-failed':
          if (settings.onStoreError === 'closed') throw refusal(id, 'store-failed', acquired.error);
          return { value: await handler(unprotected(key)), replayed: false };
        case 'unreadable':
          throw refusal(id, 'unreadable', acquired.error);
        case 'mismatch':
        case 'processing':
        case 'unknown':
          throw refusal(id, acquired.state);
      }
    },
  };
}

async function execute<T>(
  key: string,
  lease: Lease,
  handler: (execution: Execution) => T | Promise<T>,
  encode: (value: T) => Uint8Array | Promise<Uint8Array>,
): Promise<RunResult<T>> {
  const execution = new LeasedExecution(key, lease);
  let value: T;
  let payload: Uint8Array;
  try {
    value = await handler(execution);
    payload = await encode(value);
  } catch (error) {
    // Best effort: when the store fails too, the lease runs out and the outcome is unknown all the same.
    await (execution.isExecuted ? lease.abandon() : lease.release()).catch(() => {});
    throw error;
  }
  const settled = execution.isExecuted ? lease.complete(payload) : lease.release();
  const isHeld = await settled.catch((error: unknown) => {
    throw refusal(lease.claim.id, 'store-failed', error);
  });
  if (!isHeld) throw refusal(lease.claim.id, 'lost');
  return { value, replayed: false };
}

/** An execution that holds its record, and what it said about itself. */
export class LeasedExecution implements Execution {
  readonly key: string;
  readonly fence: number;
  isExecuted = true;
  readonly #lease: Lease;

  constructor(key: string, lease: Lease) {
    this.key = key;
    this.fence = lease.claim.fence;
    this.#lease = lease;
    if (channels.started.hasSubscribers) {
      const { id, fence } = lease.claim;
      channels.started.publish({ id, fence, recovered: lease.recovered });
    }
  }

  get signal(): AbortSignal {
    return this.#lease.signal;
  }

  // A function of its own, so that handlers can take it out of the context.
  readonly notExecuted = (): void => {
    this.isExecuted = false;
  };
}

/** An execution that nothing protects. */
export function unprotected(key?: string): Execution {
  return { key, fence: undefined, signal: new AbortController().signal, notExecuted() {} };
}

function replay<T>(id: string, payload: Uint8Array | undefined): RunResult<T> {
  if (!payload || noResult.equals(payload)) throw refusal(id, 'not-stored');
  const value = valueIn<T>(id, payload);
  channels.replayed.publish({ id });
  return { value, replayed: true };
}

function valueIn<T>(id: string, payload: Uint8Array): T {
  try {
    const { value } = JSON.parse(Buffer.from(payload).toString()) as { value: T };
    return value;
  } catch {
    // Without its cause, which would quote the payload.
    throw refusal(id, 'unreadable');
  }
}

const refusals = {
  mismatch: ['ERR_IDEMPOTENCY_KEY_REUSED', 'the key was used with another fingerprint'],
  processing: ['ERR_IDEMPOTENCY_IN_PROGRESS', 'another run of this key is in progress'],
  unknown: [
    'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
    'an earlier run of this key never said how it ended',
  ],
  'not-stored': [
    'ERR_IDEMPOTENCY_RESULT_NOT_STORED',
    'the key was run, but its result was too large to be kept',
  ],
  unreadable: ['ERR_IDEMPOTENCY_RECORD_UNREADABLE', 'the record of this key cannot be read'],
  lost: [
    'ERR_IDEMPOTENCY_LEASE_LOST',
    'the handler ran, but its lease was lost: its result does not count',
  ],
  'store-failed': ['ERR_IDEMPOTENCY_STORE_UNAVAILABLE', 'the idempotency store failed'],
} as const satisfies Record<string, readonly [IdempotencyErrorCode, string]>;

function refusal(id: string, why: keyof typeof refusals, cause?: unknown): IdempotencyError {
  const [code, message] = refusals[why];
  channels.refused.publish({ id, code });
  return new IdempotencyError(code, message, cause === undefined ? undefined : { cause });
}
