import { type Script, script } from '@countersign/redis';
import type { RotationOutcome } from './store.ts';

const PRELUDE = `
local function keep(key, ttlMs)
  if tonumber(ttlMs) > 0 then redis.call('PEXPIRE', key, ttlMs) end
end
local function note(record, trail, entry, maxTrail)
  if entry == '' then return end
  redis.call('LPUSH', trail, entry)
  redis.call('LTRIM', trail, 0, tonumber(maxTrail) - 1)
  keep(trail, redis.call('PTTL', record))
end
`;

// KEYS record trail · ARGV id channel ttlMs entry maxTrail field value …  No channel: nobody can have heard of the key before.
const CREATE = `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
keep(KEYS[1], ARGV[3])
note(KEYS[1], KEYS[2], ARGV[4], ARGV[5])
return 1`;

const FIND = `return redis.call('HGETALL', KEYS[1])`;

// KEYS record trail successor · ARGV id channel atMs overlapEndsAtMs retentionMs successorId successorTtlMs entry maxTrail field value …
const ROTATE = `
local known = redis.call('HMGET', KEYS[1], 'c', 'z', 'x', 'R', 'y')
if not known[1] then return 'not_found' end
if known[2] then return 'revoked' end
if known[4] then return 'already_rotated' end
if known[3] and tonumber(known[3]) <= tonumber(ARGV[3]) then return 'expired' end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'id_taken' end
-- First, since it may be forbidden: a successor that was made all the same would be lost with the answer.
redis.call('PUBLISH', ARGV[2], ARGV[1])
redis.call('HSET', KEYS[3], unpack(ARGV, 10))
keep(KEYS[3], ARGV[7])
local ends = ARGV[4]
if known[3] and tonumber(known[3]) < tonumber(ends) then ends = known[3] end
redis.call('HSET', KEYS[1], 'r', ARGV[3], 'R', ARGV[6], 'x', ends)
if not known[5] then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(ends) - tonumber(ARGV[3]) + tonumber(ARGV[5])))
end
note(KEYS[1], KEYS[2], ARGV[8], ARGV[9])
return redis.call('HGETALL', KEYS[1])`;

// KEYS record trail · ARGV id channel atMs reason entry maxTrail
const REVOKE = `
local known = redis.call('HMGET', KEYS[1], 'c', 'z')
if known[1] and not known[2] then
  redis.call('HSET', KEYS[1], 'z', ARGV[3], 'Z', ARGV[4])
  note(KEYS[1], KEYS[2], ARGV[5], ARGV[6])
end
-- Last, so that a revocation that cannot be told stands. Also when it was revoked before: whoever repeats it may do so
-- because a cache did not hear of it.
redis.call('PUBLISH', ARGV[2], ARGV[1])
return redis.call('HGETALL', KEYS[1])`;

// KEYS record · ARGV from to pepperId
const REHASH = `
if redis.call('HGET', KEYS[1], 'h') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'h', ARGV[2])
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'k') else redis.call('HSET', KEYS[1], 'k', ARGV[3]) end
return 1`;

// KEYS record trail · ARGV atMs intervalMs entry maxTrail
const TOUCH = `
local known = redis.call('HMGET', KEYS[1], 'c', 'u')
if not known[1] then return 0 end
if known[2] and tonumber(ARGV[1]) - tonumber(known[2]) < tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'u', ARGV[1])
note(KEYS[1], KEYS[2], ARGV[3], ARGV[4])
return 1`;

// KEYS record trail · ARGV entry maxTrail
const APPEND = `
if redis.call('EXISTS', KEYS[1]) == 1 then note(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) end`;

const TRAIL = `return redis.call('LRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1)`;

// KEYS index · ARGV ttlMs member. An index lives as long as the longest-lived of its members.
const INDEX = `
local left = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], 0, ARGV[2])
local ttl = tonumber(ARGV[1])
if ttl <= 0 then redis.call('PERSIST', KEYS[1])
elseif left == -2 or (left >= 0 and left < ttl) then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end`;

// KEYS index · ARGV after until limit
const RANGE = `return redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])`;

const FORGET = `redis.call('ZREM', KEYS[1], unpack(ARGV))`;

type Values = (string | number)[];
type Call<Reply> = Script<Values, Reply>;

export interface RedisScripts {
  readonly create: Call<number>;
  readonly find: Call<string[]>;
  readonly rotate: Call<string[] | Exclude<RotationOutcome['status'], 'rotated'>>;
  readonly revoke: Call<string[]>;
  readonly rehash: Call<number>;
  readonly touch: Call<number>;
  readonly append: Call<null>;
  readonly trail: Call<string[]>;
  readonly index: Call<null>;
  readonly range: Call<string[]>;
  readonly forget: Call<null>;
}

/** The store's scripts: each atomic, on one slot, with a deadline. */
export function redisScripts(timeoutMs: number): RedisScripts {
  const make = <Reply>(lua: string, keys: number): Call<Reply> =>
    script<Values, Reply>(lua, { keys, prelude: PRELUDE, timeoutMs });
  return {
    create: make(CREATE, 2),
    find: make(FIND, 1),
    rotate: make(ROTATE, 3),
    revoke: make(REVOKE, 2),
    rehash: make(REHASH, 1),
    touch: make(TOUCH, 2),
    append: make(APPEND, 2),
    trail: make(TRAIL, 1),
    index: make(INDEX, 1),
    range: make(RANGE, 1),
    forget: make(FORGET, 1),
  };
}
