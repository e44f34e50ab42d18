import type { Call } from './call.ts';
import { StoreUnavailableError } from './errors.ts';
import { batchChannel, failureChannel } from './events.ts';
import type { CompiledScript } from './lua.ts';
import { scriptError } from './refusal.ts';

/** So many calls at most travel together: while Redis runs them it serves nobody else. */
const maxCalls = 128;
const maxLength = 256 * 1024;
/** Lua unpacks the arguments of each call of a batch, and takes no more than 8000 at once. */
const maxArguments = 4096;

/** Calls of one script that were made in the same tick, for the same slot and with the same deadline. */
export class Batch {
  readonly script: CompiledScript;
  readonly slot: number;
  readonly timeoutMs: number;
  readonly startedAt: number;
  settled = false;
  /** The last answer of a server that did not run it. */
  refusal: Error | undefined;
  /** How often a server sent it elsewhere since it last waited. */
  redirections = 0;
  /** Whether its answer is to come, and its neighbours among those of the same connection (see `Unanswered`). */
  sent = false;
  before: Batch | undefined;
  after: Batch | undefined;
  readonly #calls: Call[] = [];
  #arguments = 0;
  /** Of keys and arguments, in characters and bytes. */
  length = 0;

  constructor(
    script: CompiledScript,
    slot: number,
    timeoutMs: number,
    startedAt: number = performance.now(),
  ) {
    this.script = script;
    this.slot = slot;
    this.timeoutMs = timeoutMs;
    this.startedAt = startedAt;
  }

  get size(): number {
    return this.#calls.length;
  }

  /** The time of `performance.now()` by which its calls have to be settled. */
  get dueAt(): number {
    return this.startedAt + this.timeoutMs;
  }

  hasRoomFor(argumentCount: number): boolean {
    return (
      this.#calls.length < maxCalls &&
      this.length < maxLength &&
      this.#arguments + argumentCount <= maxArguments
    );
  }

  add(call: Call): void {
    this.#calls.push(call);
    this.#arguments += call.args.length;
    this.length += call.length;
  }

  /** What `EVAL` (with the source) and `EVALSHA` (with the hash) are called with. */
  parameters(script: string): (string | number | Buffer)[] {
    const { keys, argsPerCall } = this.script;
    const parameters: (string | number | Buffer)[] = [script, this.#calls.length * keys];
    for (const call of this.#calls) for (const key of call.keys) parameters.push(key);
    const counted = argsPerCall === undefined && this.#calls.length > 1;
    for (const { args } of this.#calls) {
      if (counted) parameters.push(args.length);
      for (const arg of args) parameters.push(arg);
    }
    return parameters;
  }

  /** Its calls, each in a batch of its own. This one is not to be used any more. */
  split(): Batch[] {
    return this.#calls.map((call) => {
      const batch = new Batch(this.script, this.slot, this.timeoutMs, this.startedAt);
      batch.add(call);
      return batch;
    });
  }

  /** Hands each call its own part of the answer. */
  settle(replies: unknown): void {
    if (!Array.isArray(replies) || replies.length !== this.#calls.length) {
      this.fail(
        new StoreUnavailableError(
          'ERR_STORE_FAILED',
          'the script did not return one reply for each of its calls',
        ),
      );
      return;
    }
    if (this.settled) return;
    this.settled = true;
    if (batchChannel.hasSubscribers) {
      const durationMs = performance.now() - this.startedAt;
      batchChannel.publish({ script: this.script.sha, calls: this.size, durationMs });
    }
    for (let index = 0; index < replies.length; index += 1) {
      const reply: unknown = replies[index];
      const call = this.#calls[index] as Call;
      if (reply instanceof Error) call.reject(scriptError(reply));
      else call.resolve(reply as never);
    }
  }

  fail(error: StoreUnavailableError): void {
    if (this.settled) return;
    this.settled = true;
    if (failureChannel.hasSubscribers) {
      const { code, outcome } = error;
      failureChannel.publish({ script: this.script.sha, calls: this.size, code, outcome });
    }
    for (const call of this.#calls) call.reject(error);
  }
}
