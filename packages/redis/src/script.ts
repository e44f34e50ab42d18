import { assertKnown, type OptionNames } from '@countersign/options';
import { inputOf, type ScriptArgument } from './call.ts';
import { assertTimeout } from './deadline.ts';
import { dispatcherOf } from './dispatcher.ts';
import { compile, compileTogether } from './lua.ts';
import type { RedisClient } from './topology.ts';

export interface ScriptOptions {
  /** How many keys each call has, at least 1. On Cluster all keys of a call must share a slot (`{hash tag}`). */
  readonly keys: number;
  /** Lua that runs once per round trip, before the calls it carries; its locals are visible to the body. Default none. */
  readonly prelude?: string;
  /**
   * The body runs once for all calls of a round trip instead of once for each: it sees the `KEYS` and `ARGV` of all of them in
   * turn, so many arguments each, and returns an array with one reply for each. An error it raises fails all of them, and must
   * not begin with a code by which Redis refuses to run a script (`BUSY`, `MOVED`, …). Default: off.
   */
  readonly argsPerCall?: number;
  /** `bytes`: bulk strings arrive as `Buffer`. Default `text`: as strings, decoded as UTF-8. */
  readonly replies?: 'text' | 'bytes';
  /** How long a call may take, in milliseconds. Default 1000. */
  readonly timeoutMs?: number;
}

export interface CallOptions {
  /** How long this call may take, in milliseconds; default: the script's. */
  readonly timeoutMs?: number;
}

/**
 * Runs the script atomically, at most once, within the deadline.
 * @throws StoreUnavailableError when it could not, or when nobody knows whether it could: see its `outcome`.
 */
export type Script<Args extends readonly ScriptArgument[], Reply> = (
  client: RedisClient,
  keys: readonly string[],
  args: Args,
  options?: CallOptions,
) => Promise<Reply>;

const scriptOptions: OptionNames<ScriptOptions> = {
  keys: true,
  prelude: true,
  argsPerCall: true,
  replies: true,
  timeoutMs: true,
};
const callOptions: OptionNames<CallOptions> = { timeoutMs: true };

/**
 * Makes a Lua script callable.
 *
 * The body is written like any Redis script: it reads `KEYS` and `ARGV`, calls `redis.call`, and returns its reply. It runs
 * as a function, many calls of a tick in one round trip; each sees its own `KEYS` and `ARGV` only, and an error fails its own
 * call only. It must not keep state in globals, and must be quick: Redis serves nobody else meanwhile.
 *
 * @typeParam Args - the types of `ARGV`, in order.
 * @typeParam Reply - what the body returns, after conversion by Redis (numbers become integers, `false` and nothing `null`).
 */
export function script<Args extends readonly ScriptArgument[], Reply>(
  lua: string,
  options: ScriptOptions,
): Script<Args, Reply> {
  if (typeof lua !== 'string') throw new TypeError('lua: expected the text of a script');
  assertKnown(options, scriptOptions);
  const {
    keys: keyCount,
    prelude = '',
    argsPerCall,
    replies = 'text',
    timeoutMs: usualTimeoutMs = 1000,
  } = options;
  if (!Number.isInteger(keyCount) || keyCount < 1)
    throw new TypeError('keys: expected the number of keys of a call, at least 1');
  if (argsPerCall !== undefined && (!Number.isInteger(argsPerCall) || argsPerCall < 0))
    throw new TypeError('argsPerCall: expected the number of arguments of a call');
  if (replies !== 'text' && replies !== 'bytes')
    throw new TypeError("replies: expected 'text' or 'bytes'");
  if (typeof prelude !== 'string') throw new TypeError('prelude: expected the text of a script');
  assertTimeout(usualTimeoutMs);
  const compiled =
    argsPerCall === undefined
      ? compile(lua, prelude, keyCount, replies)
      : compileTogether(lua, prelude, keyCount, replies, argsPerCall);

  return (client, keys, args, call) => {
    try {
      if (call) assertKnown(call, callOptions);
      const timeoutMs = call?.timeoutMs ?? usualTimeoutMs;
      if (timeoutMs !== usualTimeoutMs) assertTimeout(timeoutMs);
      if (keys.length !== keyCount)
        throw new TypeError(`keys: expected ${keyCount}, got ${keys.length}`);
      if (argsPerCall !== undefined && args.length !== argsPerCall)
        throw new TypeError(`args: expected ${argsPerCall}, got ${args.length}`);
      return dispatcherOf(client).call(compiled, inputOf(keys, args), timeoutMs) as Promise<Reply>;
    } catch (error) {
      return Promise.reject(error);
    }
  };
}
