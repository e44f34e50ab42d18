import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, script } from '@countersign/redis';
import { IdempotencyError } from './errors.ts';
import { assertInteger } from './settings.ts';
import type { Begun, HeldClaim, IdempotencyStore } from './store.ts';

/** Options of {@link redisIdempotencyStore}. */
export interface RedisIdempotencyStoreOptions {
  /** Begins every key; default `idempotency:`. */
  readonly prefix?: string;
  /** How long an operation may take, in milliseconds; default 1000. */
  readonly timeoutMs?: number;
}

const known: OptionNames<RedisIdempotencyStoreOptions> = { prefix: true, timeoutMs: true };

/**
 * Keeps records in Redis, Sentinel or Cluster: one key per record, one round trip per operation, Redis' own time.
 * Every operation rejects with `StoreUnavailableError` of `@countersign/redis` when it takes longer than `timeoutMs`.
 * The server must not evict (`maxmemory-policy noeviction`): a forgotten outcome is a second execution.
 * @throws TypeError for a client that is none of ioredis, for a `timeoutMs` that is no whole number of milliseconds, and for
 * an option that there is not.
 */
export function redisIdempotencyStore(
  redis: RedisClient,
  options: RedisIdempotencyStoreOptions = {},
): IdempotencyStore {
  assertKnown(options, known);
  const { prefix = 'idempotency:', timeoutMs = 1000 } = options;
  assertRedisClient('redis', redis);
  assertInteger('timeoutMs', timeoutMs, 1);
  const call = { timeoutMs };
  const keysOf = (id: string): readonly [string] => [prefix + id];

  const change = async (
    state: 'p' | 'c' | 'r' | 'u',
    { id, owner, fence, fingerprint, leaseMs, ttlMs }: HeldClaim,
    payload: Uint8Array | '' = '',
  ): Promise<boolean> => {
    const args = [state, owner, fence, fingerprint, leaseMs, ttlMs, payload] as const;
    const reply = await changeScript(redis, keysOf(id), args, call);
    if (reply < 0) throw unreadable();
    return reply === 1;
  };

  return {
    async begin({ id, owner, fingerprint, leaseMs, ttlMs }, { takeover }) {
      const args = [owner, fingerprint, leaseMs, ttlMs, takeover ? 1 : 0] as const;
      return begunOf(await beginScript(redis, keysOf(id), args, call));
    },
    renew: (claim) => change('p', claim),
    complete: (claim, payload) => change('c', claim, payload),
    release: (claim) => change('r', claim),
    abandon: (claim) => change('u', claim),
  };
}

type BeginReply =
  | readonly [state: Buffer]
  | readonly [state: Buffer, fence: number]
  | readonly [state: Buffer, fence: number, recovered: 0 | 1]
  | readonly [state: Buffer, payload: Buffer, expiresInMs: number];

function begunOf([state, first, second]: BeginReply): Begun {
  switch (state.toString('latin1')) {
    case 'acquired':
      return { state: 'acquired', fence: Number(first), recovered: second === 1 };
    case 'processing':
      return { state: 'processing' };
    case 'unknown':
      return { state: 'unknown', fence: Number(first) };
    case 'completed':
      return { state: 'completed', payload: first as Buffer, expiresInMs: Number(second) };
    case 'mismatch':
      return { state: 'mismatch' };
    default:
      throw unreadable();
  }
}

function unreadable(): IdempotencyError {
  return new IdempotencyError(
    'ERR_IDEMPOTENCY_RECORD_UNREADABLE',
    'the record in Redis has a format that this version does not know',
  );
}

// A record is one line and, when it is completed, the payload after it:
//   1 p <fence> <fingerprint> <lease until, ms> <owner>     processing
//   1 t <fence> <fingerprint> <lease until, ms> <owner>     processing, taken over from an unknown outcome
//   1 u <fence> <fingerprint>                               unknown
//   1 r <fence> -                                           released
//   1 c <fence> <fingerprint>                               completed
const prelude = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function parse(value)
  local first, last, state, fence, fingerprint, leaseUntil, owner =
    string.find(value, '^1 (%l) (%d+) (%S+) ?(%d*) ?(%S*)\\n')
  return state, fence, fingerprint, tonumber(leaseUntil), owner, (last or 0) + 1
end

local function process(key, state, fence, fingerprint, owner, leaseMs, ttlMs)
  local line = string.format('1 %s %.0f %s %.0f %s\\n', state, fence, fingerprint, now + leaseMs, owner)
  redis.call('SET', key, line, 'PX', ttlMs)
end
`;

const beginScript = script<
  readonly [owner: string, fingerprint: string, leaseMs: number, ttlMs: number, takeover: 0 | 1],
  BeginReply
>(
  `
local key, owner, fingerprint = KEYS[1], ARGV[1], ARGV[2]
local fence, taken = 0, 'p'
local value = redis.call('GET', key)
if value then
  local state, heldFence, heldFingerprint, leaseUntil, heldOwner, payloadAt = parse(value)
  if not state then return { 'unreadable' } end
  fence = tonumber(heldFence)
  if heldOwner == owner then return { 'acquired', fence, state == 't' and 1 or 0 } end
  if state ~= 'r' then
    if heldFingerprint ~= fingerprint then return { 'mismatch' } end
    if state == 'c' then
      return { 'completed', string.sub(value, payloadAt), redis.call('PTTL', key) }
    end
    if state ~= 'u' and leaseUntil > now then return { 'processing' } end
    if ARGV[5] ~= '1' then return { 'unknown', fence } end
    taken = 't'
  end
end
fence = math.max(fence + 1, now)
process(key, taken, fence, fingerprint, owner, ARGV[3], ARGV[4])
return { 'acquired', fence, taken == 't' and 1 or 0 }
`,
  { keys: 1, prelude, replies: 'bytes' },
);

const changeScript = script<
  readonly [
    state: 'p' | 'c' | 'r' | 'u',
    owner: string,
    fence: number,
    fingerprint: string,
    leaseMs: number,
    ttlMs: number,
    payload: Uint8Array | '',
  ],
  1 | 0 | -1
>(
  `
local key, wanted, owner, fence, fingerprint = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local leaseMs, ttlMs = ARGV[5], ARGV[6]
local taken = false
-- The line is shorter than this, and a payload need not be read.
local value = redis.call('GETRANGE', key, 0, 255)
if value ~= '' then
  local state, heldFence, _, _, heldOwner = parse(value)
  if not state then return -1 end
  if heldOwner ~= owner then
    local isSaidAgain = wanted == state and state ~= 'p' or wanted == 'r' and state == 'u'
    return heldFence == fence and isSaidAgain and 1 or 0
  end
  taken = state == 't'
  fence = heldFence -- its owner may never have learned it
elseif wanted == 'r' then
  return 1
end
if wanted == 'p' then
  process(key, taken and 't' or 'p', fence, fingerprint, owner, leaseMs, ttlMs)
elseif wanted == 'r' and not taken then
  redis.call('SET', key, '1 r ' .. fence .. ' -\\n', 'PX', leaseMs)
else
  local state = wanted == 'c' and 'c' or 'u'
  redis.call('SET', key, '1 ' .. state .. ' ' .. fence .. ' ' .. fingerprint .. '\\n' .. ARGV[7], 'PX', ttlMs)
end
return 1
`,
  { keys: 1, prelude, replies: 'bytes' },
);
