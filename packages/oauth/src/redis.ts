import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, script } from '@countersign/redis';
import { createSeal, type Seal, SealError, type SealKeySource } from '@countersign/seal';
import { bound } from './bound.ts';
import { OAuthError } from './errors.ts';
import { inTime } from './in-time.ts';
import type { Claim, TokenStore } from './store.ts';

export interface RedisTokenStoreOptions {
  /** Values are encrypted (`@countersign/seal`) with the first; all of them decrypt. 32 random bytes each, or a function that gets them. */
  readonly encryptionKeys: readonly SealKeySource[];
  /** Begins every key; default `oauth:`. */
  readonly prefix?: string;
  /** How long an operation may take, in milliseconds; default 1000. */
  readonly timeoutMs?: number;
}

const names: OptionNames<RedisTokenStoreOptions> = {
  encryptionKeys: true,
  prefix: true,
  timeoutMs: true,
};

/**
 * Shares tokens through Redis, Sentinel or Cluster: one key per token, one round trip per operation, Redis' own time.
 * Whoever reads Redis sees no token. For `refreshToken()` the server must persist (AOF) and must not evict: a lost
 * refresh token is a lost grant.
 * Operations reject with `StoreUnavailableError` of `@countersign/redis`, or with `SealError` of `@countersign/seal` when a key cannot be got.
 * @throws TypeError for a client that is none of ioredis, and for a key that is not 32 bytes.
 */
export function redisTokenStore(redis: RedisClient, options: RedisTokenStoreOptions): TokenStore {
  assertRedisClient('redis', redis);
  assertKnown(options, names);
  const { prefix = 'oauth:' } = options;
  if (typeof prefix !== 'string') throw new TypeError('prefix must be a string');
  const timeoutMs = bound(options, 'timeoutMs', 1000);
  const seal = createSeal(options.encryptionKeys);
  const call = { timeoutMs };
  /** A key that never comes must not hold up what can be done without the store. */
  const timely = async <T>(work: T | Promise<T>): Promise<T> =>
    work instanceof Promise
      ? inTime(work, AbortSignal.timeout(timeoutMs), 'ERR_OAUTH_STORE', 'an encryption key')
      : work;

  const ask = async (
    key: string,
    request: Parameters<TokenStore['claim']>[1],
    generation: number,
  ): Promise<Claim> => {
    const { owner, leaseMs, journal = false, takeOverWithinMs = 0 } = request;
    const args = [owner, leaseMs, generation, journal ? 1 : 0, takeOverWithinMs] as const;
    const [status, first, second, remainingMs] = await claimScript(
      redis,
      [prefix + key],
      args,
      call,
    );
    const unopened = status === 'current' ? first : second;
    const value =
      unopened === undefined
        ? undefined
        : await timely(opened(seal, String(unopened), key)).catch(async (error) => {
            // An intent that is never followed would have the grant ambiguous for a month.
            await releaseScript(redis, [prefix + key], [owner, '', 0, 0], call);
            throw error;
          });
    const unreadable = unopened !== undefined && value === undefined;
    switch (status) {
      case 'current':
        if (value !== undefined) {
          return { status, value, generation: Number(second), remainingMs: Number(remainingMs) };
        }
        // Nobody here can use it. What can be had anew is replaced; what cannot must not be overwritten.
        if (journal) throw unreadableError();
        return ask(key, request, Number(second));
      case 'claimed':
        if (unreadable && journal) {
          await releaseScript(redis, [prefix + key], [owner, '', 0, 0], call);
          throw unreadableError();
        }
        return {
          status,
          generation: Number(first),
          ...(value === undefined ? {} : { value }),
        };
      case 'held':
        return { status, remainingMs: Number(first) };
      case 'ambiguous':
        return { status, sinceMs: Number(first) };
      case 'refused':
        return { status, reason: String(first), remainingMs: Number(second) };
    }
  };

  return {
    claim: async (key, request) => {
      // Who could not store the replacement must not ask for one.
      await timely(seal.ready());
      return ask(key, request, request.generation);
    },
    complete: async (key, { owner, value, ttlMs, generation }) => {
      const sealed = await timely(seal.seal(Buffer.from(value), key));
      const args = [owner, sealed.toString('base64url'), Math.ceil(ttlMs), generation] as const;
      const stored = await completeScript(redis, [prefix + key], args, call);
      return stored === 0 ? undefined : stored;
    },
    release: async (key, { owner, refused, keepIntent = false }) => {
      const { reason = '', ttlMs = 0 } = refused ?? {};
      const args = [owner, reason, ttlMs, keepIntent ? 1 : 0] as const;
      await releaseScript(redis, [prefix + key], args, call);
    },
  };
}

/** `undefined` when it was altered, moved to another key, or closed with a key that is not there. */
async function opened(seal: Seal, sealed: string, name: string): Promise<string | undefined> {
  try {
    return (await seal.open(Buffer.from(sealed, 'base64url'), name)).toString();
  } catch (error) {
    // With the key it may be readable: nothing may take its place.
    if (error instanceof SealError && error.code !== 'ERR_SEAL_KEY_UNAVAILABLE') return undefined;
    throw error;
  }
}

function unreadableError(): OAuthError {
  return new OAuthError('ERR_OAUTH_STORE', 'the stored token cannot be decrypted with these keys');
}

// A hash per token. v: sealed value, g: its generation, x: valid until; l, lu: lease owner and end; i, ia: owner and
// moment of the intent; r, ru: reason of a refusal and its end. Times are milliseconds since the epoch.
const prelude = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
`;

const claimScript = script<
  readonly [
    owner: string,
    leaseMs: number,
    generation: number,
    journal: 0 | 1,
    takeOverWithinMs: number,
  ],
  readonly [status: Claim['status'], ...found: (string | number)[]]
>(
  `
local key, owner, leaseMs, known = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local f = redis.call('HMGET', key, 'v', 'g', 'x', 'l', 'lu', 'i', 'ia', 'r', 'ru')
local generation = tonumber(f[2] or '0')
local value = f[1] and tonumber(f[3]) > now and f[1]
if value and generation > known then return { 'current', value, generation, tonumber(f[3]) - now } end
if f[4] and f[4] ~= owner and tonumber(f[5]) > now then return { 'held', tonumber(f[5]) - now } end
if f[6] and f[6] ~= owner and now - tonumber(f[7]) >= tonumber(ARGV[5]) then
  return { 'ambiguous', tonumber(f[7]) }
end
if f[8] and tonumber(f[9]) > now then return { 'refused', f[8], tonumber(f[9]) - now } end
redis.call('HSET', key, 'l', owner, 'lu', now + leaseMs)
-- Longer than the lease: an owner who comes late is welcome while nobody has taken its place.
keep(key, leaseMs * 6)
if ARGV[4] == '1' then
  -- One that is taken over stays what it is: what became of it is known when the claim is completed, and not before.
  if not f[6] then redis.call('HSET', key, 'i', owner, 'ia', now) end
  -- An intent is evidence: it stays until a person has seen what became of it, or the grant is long dead.
  keep(key, 2592000000)
end
if value then return { 'claimed', generation, value } end
return { 'claimed', generation }
`,
  { keys: 1, prelude },
);

const completeScript = script<
  readonly [owner: string, value: string, ttlMs: number, generation: number],
  number
>(
  `
local key, owner, ttlMs = KEYS[1], ARGV[1], tonumber(ARGV[3])
local f = redis.call('HMGET', key, 'l', 'i', 'g')
local holder, stored, known = f[1] or f[2], tonumber(f[3] or '0'), tonumber(ARGV[4])
if holder and holder ~= owner or not holder and stored > known then return 0 end
local generation = math.max(stored, known) + 1
redis.call('DEL', key)
redis.call('HSET', key, 'v', ARGV[2], 'g', generation, 'x', now + ttlMs)
redis.call('PEXPIRE', key, ttlMs)
return generation
`,
  { keys: 1, prelude },
);

const releaseScript = script<
  readonly [owner: string, reason: string, ttlMs: number, keepIntent: 0 | 1],
  number
>(
  `
local key, owner, ttlMs = KEYS[1], ARGV[1], tonumber(ARGV[3])
local f = redis.call('HMGET', key, 'l', 'i')
if (f[1] or f[2]) ~= owner then return 0 end
redis.call('HDEL', key, 'l', 'lu')
if ARGV[4] == '1' then return 1 end
if f[2] == owner then redis.call('HDEL', key, 'i', 'ia') end
if ARGV[2] ~= '' then
  redis.call('HSET', key, 'r', ARGV[2], 'ru', now + ttlMs)
  keep(key, ttlMs)
end
return 1
`,
  { keys: 1, prelude },
);
