import { timeoutError } from './deadline.ts';
import { StoreUnavailableError } from './errors.ts';
import { batchChannel, failureChannel } from './events.ts';
import type { CompiledScript } from './lua.ts';

export type ScriptArgument = string | number | Uint8Array;

/** So many calls at most travel together: while Redis runs them it serves nobody else. */
const maxCalls = 128;
const maxBytes = 256 * 1024;

interface Call {
  readonly resolve: (reply: never) => void;
  readonly reject: (error: unknown) => void;
}

interface Carrier {
  /** The deadline of a batch that was sent has passed. */
  expired(batch: Batch): void;
}

/** Calls of one script that were made in the same tick, for the same slot and with the same deadline. */
export class Batch {
  readonly script: CompiledScript;
  readonly slot: number;
  readonly timeoutMs: number;
  /** Who awaits the answer; `undefined` as long as nothing has been sent. */
  carrier: Carrier | undefined;
  settled = false;
  /** How often another node was named as the one to ask. */
  redirections = 0;
  readonly #keys: string[] = [];
  readonly #args: (string | number | Buffer)[] = [];
  readonly #calls: Call[] = [];
  readonly #startedAt: number;
  readonly #timer: NodeJS.Timeout;
  #bytes = 0;

  /** @param onExpired - called when the deadline passed before anything was sent, after the calls were rejected. */
  constructor(
    script: CompiledScript,
    slot: number,
    timeoutMs: number,
    onExpired: (batch: Batch) => void,
  ) {
    this.script = script;
    this.slot = slot;
    this.timeoutMs = timeoutMs;
    this.#startedAt = batchChannel.hasSubscribers ? performance.now() : 0;
    // Not unref'd: somebody waits for this answer, and it comes within `timeoutMs`.
    this.#timer = setTimeout(() => {
      this.fail(
        this.carrier
          ? timeoutError(timeoutMs)
          : new StoreUnavailableError(
              'ERR_STORE_UNAVAILABLE',
              `no connection to Redis within ${timeoutMs} ms; nothing was sent`,
              { outcome: 'not-run' },
            ),
      );
      if (this.carrier) this.carrier.expired(this);
      else onExpired(this);
    }, timeoutMs);
  }

  get size(): number {
    return this.#calls.length;
  }

  get full(): boolean {
    return this.#calls.length >= maxCalls || this.#bytes >= maxBytes;
  }

  add(keys: readonly string[], args: readonly ScriptArgument[], call: Call): void {
    for (const key of keys) this.#keys.push(key);
    if (this.script.argsPerCall === undefined) this.#args.push(args.length);
    for (const arg of args) {
      if (typeof arg === 'object') {
        this.#args.push(Buffer.from(arg.buffer, arg.byteOffset, arg.byteLength));
        this.#bytes += arg.byteLength;
      } else {
        this.#args.push(arg);
        if (typeof arg === 'string') this.#bytes += arg.length;
      }
    }
    this.#calls.push(call);
  }

  /** What follows the script or its hash in `EVAL` and `EVALSHA`. */
  get parameters(): (string | number | Buffer)[] {
    return [this.#keys.length, ...this.#keys, ...this.#args];
  }

  /** Hands each call its own part of the answer. */
  settle(replies: readonly unknown[]): void {
    if (!this.#close()) return;
    if (batchChannel.hasSubscribers) {
      const durationMs = performance.now() - this.#startedAt;
      batchChannel.publish({ script: this.script.sha, calls: this.size, durationMs });
    }
    for (let index = 0; index < this.#calls.length; index += 1) {
      const reply = replies[index];
      const call = this.#calls[index] as Call;
      if (reply instanceof Error) call.reject(serverError(reply));
      else call.resolve(reply as never);
    }
  }

  fail(error: StoreUnavailableError): void {
    if (!this.#close()) return;
    if (failureChannel.hasSubscribers) {
      const { code, outcome } = error;
      failureChannel.publish({ script: this.script.sha, calls: this.size, code, outcome });
    }
    for (const call of this.#calls) call.reject(error);
  }

  #close(): boolean {
    if (this.settled) return false;
    this.settled = true;
    clearTimeout(this.#timer);
    return true;
  }
}

const unavailable =
  /^-?(LOADING|READONLY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|NOREPLICAS|MISCONF|NOSCRIPT)\b/;

/** The typed error for an error reply of the server. */
export function serverError(error: Error): StoreUnavailableError {
  // ioredis hangs the command with all its arguments on its errors; they may hold secrets.
  const cause = new Error(error.message);
  return unavailable.test(error.message)
    ? new StoreUnavailableError('ERR_STORE_UNAVAILABLE', `Redis cannot serve: ${error.message}`, {
        cause,
        outcome: 'not-run',
      })
    : new StoreUnavailableError('ERR_STORE_FAILED', `Redis answered: ${error.message}`, { cause });
}
