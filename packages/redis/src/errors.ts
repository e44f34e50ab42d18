/**
 * - `ERR_STORE_UNAVAILABLE`: there is no usable connection, or the server said that it cannot serve now.
 * - `ERR_STORE_TIMEOUT`: the call was sent and no answer came before its deadline.
 * - `ERR_STORE_FAILED`: the server answered with an error (out of memory, no permission, wrong type, a script's own error).
 */
export type StoreErrorCode = 'ERR_STORE_UNAVAILABLE' | 'ERR_STORE_TIMEOUT' | 'ERR_STORE_FAILED';

export interface StoreErrorOptions extends ErrorOptions {
  /** Default `unknown`. */
  readonly outcome?: StoreOutcome;
}

/**
 * - `not-run`: the operation certainly had no effect.
 * - `unknown`: it may have had its effect, or may still have it: only its answer is missing.
 */
export type StoreOutcome = 'not-run' | 'unknown';

/** The store could not do what it was asked to. Nothing is ever sent a second time on its own. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
  readonly code: StoreErrorCode;
  /** Whether the operation may have happened all the same. */
  readonly outcome: StoreOutcome;

  constructor(code: StoreErrorCode, message: string, options: StoreErrorOptions = {}) {
    super(message, options);
    this.code = code;
    this.outcome = options.outcome ?? 'unknown';
  }
}
