import { type Script, script } from '@countersign/redis';
import { clock } from './prelude.ts';

/** When an endpoint is called less, or not at all. All in milliseconds but `failures`. */
export interface BreakerSettings {
  /** Failures in a row after which the endpoint is only probed, one delivery at a time. */
  readonly failures: number;
  /** The wait before the first probe; doubles up to `maxCooldownMs`. */
  readonly cooldownMs: number;
  readonly maxCooldownMs: number;
  /** Failing for this long disables the endpoint; its deliveries wait. */
  readonly disableAfterMs: number;
  /** How often a disabled endpoint is probed; the first success enables it again. */
  readonly probeEveryMs: number;
}

/** A delivery that is to be attempted, or that has waited too long. */
export interface Claimed {
  readonly event: string;
  /** Attempts used up before. */
  readonly attempts: number;
  /** Since when it waits, by Redis' clock. */
  readonly sinceMs: number;
}

/** What the ledger is told about a claim. */
export interface Settlement extends Claimed {
  /** `defer`: try again without having used up an attempt. `lapsed`: given up without an attempt. */
  readonly kind: 'delivered' | 'retry' | 'dead' | 'gone' | 'defer' | 'lapsed';
  /** For `retry`, and for `defer` when it is not to be tried again at once. */
  readonly delayMs?: number;
  /** The endpoint asked to be left alone for this long. */
  readonly penaltyMs?: number;
  /** Why it is given up. */
  readonly reason?: string;
  /** The line of the attempt log. */
  readonly log?: string;
}

/** What a drain job does next. */
export interface Turn {
  /** `run`: do what was claimed. `rest`: come back after `restMs`. `done`: nothing is left. `stale`: another job took over. */
  readonly next: 'run' | 'rest' | 'done' | 'stale';
  readonly restMs: number;
  readonly claimed: readonly Claimed[];
  /** What waits for longer than it may, to be settled as `lapsed`. */
  readonly lapsed: readonly Claimed[];
  /** Events whose payload this endpoint needs no longer: they were delivered, or their dead letter is not kept any more. */
  readonly released: readonly string[];
  /** `disabled`, `enabled` or `removed`, when this turn did that. */
  readonly change: string;
  readonly pending: number;
}

export interface TurnRequest {
  readonly endpoint: string;
  readonly seq: number;
  /** It is not there any more: all that waits for it has waited long enough. */
  readonly removed: boolean;
  /** How many more attempts could be made at the same time. */
  readonly want: number;
  /** How many are being made. */
  readonly running: number;
  /** How many may lapse at a time. */
  readonly mayLapse: number;
  readonly leaseMs: number;
  readonly fifo: boolean;
  readonly maxPerSecond: number;
  readonly logEntries: number;
  readonly logMs: number;
  /** How long a delivery may wait. */
  readonly retentionMs: number;
  readonly deadLetterMs: number;
  readonly settled: readonly Settlement[];
  readonly breaker: BreakerSettings;
}

type TurnReply = readonly [
  next: Turn['next'],
  restMs: number,
  claimed: readonly string[],
  lapsed: readonly string[],
  released: readonly string[],
  change: string,
  pending: number,
];

/**
 * Settles what ended and claims what is next, in one step. A delivery that was never attempted has in `due` the time since
 * when it waits; for others that is in `tries`, behind the attempts.
 */
export const turnScript: Script<readonly [request: string], TurnReply> = script<
  readonly [request: string],
  TurnReply
>(
  `
local due, ep, wakes, dead, reasons, tries, log, stats, letters = unpack(KEYS)
local r = cjson.decode(ARGV[1])
local b = r.breaker
local released, change = {}, ''
local state = redis.call('HMGET', ep, 'seq', 'failures', 'failingSince', 'disabledAt', 'notBefore', 'gone', 'penalty', 'removed', 'paused')
local mine = tonumber(state[1] or 0) == r.seq
local failures, failingSince = tonumber(state[2] or 0), tonumber(state[3] or 0)
local disabledAt, notBefore, gone = tonumber(state[4] or 0), tonumber(state[5] or 0), state[6]
-- What the endpoint asked for holds although another attempt succeeded meanwhile.
local penalty = tonumber(state[7] or 0)

local function answer(next, restMs, claimed, lapsed)
  return { next, restMs, claimed or {}, lapsed or {}, released, change, redis.call('ZCARD', due) }
end

-- What fails while nobody may call was begun before: many that fail at once are one failure of the endpoint, not many probes.
local mayDeepen = math.max(notBefore, penalty) <= now
local judged = false
local function countFailure()
  judged = true
  if failures < b.failures then failures = failures + 1
  elseif mayDeepen then failures, mayDeepen = failures + 1, false end
  if failures == b.failures then mayDeepen = false end
  if failingSince == 0 then failingSince = now end
end

-- Ever growing, although many may die in one millisecond: their order is that of their deaths.
local diedAt
local function giveUp(o)
  if redis.call('ZREM', due, o.event) == 0 then return false end
  local last = diedAt or tonumber(redis.call('ZREVRANGE', dead, 0, 0, 'WITHSCORES')[2] or 0)
  diedAt = math.max(now, last + 0.001)
  redis.call('ZADD', dead, string.format('%.3f', diedAt), o.event)
  redis.call('HSET', reasons, o.event, o.attempts .. ':' .. (o.reason or ''))
  redis.call('HDEL', tries, o.event)
  redis.call('HINCRBY', stats, 'dead', 1)
  return true
end

local delivered, logged = {}, false
for _, o in ipairs(r.settled) do
  if o.log then
    redis.call('XADD', log, 'MAXLEN', '~', r.logEntries, '*', 'e', o.event, 'l', o.log)
    logged = true
  end
  if o.kind == 'delivered' then
    delivered[#delivered + 1] = o.event
    local waited = redis.call('ZREM', due, o.event) == 1
    -- Given up by somebody else while this attempt was being made: it is delivered all the same.
    local revived = not waited and redis.call('ZREM', dead, o.event) == 1
    if revived then
      redis.call('HDEL', reasons, o.event)
      redis.call('HINCRBY', stats, 'dead', -1)
    end
    if waited or revived then released[#released + 1] = o.event end
    if disabledAt > 0 then change = 'enabled' end
    failures, failingSince, disabledAt, notBefore = 0, 0, 0, 0
  elseif o.kind == 'lapsed' then
    giveUp(o)
  elseif o.kind == 'dead' then
    if giveUp(o) then countFailure() end
  elseif redis.call('ZSCORE', due, o.event) then
    local at = now
    if o.delayMs then
      at = now + o.delayMs
      redis.call('HSET', tries, o.event, o.attempts .. ':' .. string.format('%.0f', o.sinceMs))
    elseif o.attempts == 0 then
      -- As before the claim.
      at = o.sinceMs
    end
    if o.kind == 'retry' then
      redis.call('HINCRBY', stats, 'retried', 1)
      countFailure()
    elseif o.kind == 'gone' then
      gone, change = '1', 'disabled'
    end
    if r.fifo then notBefore = math.max(notBefore, at) else redis.call('ZADD', due, at, o.event) end
  end
  if o.penaltyMs then penalty = math.max(penalty, now + o.penaltyMs) end
end

-- Once for all of them: a step of Redis costs as much as what it does.
if logged then redis.call('PEXPIRE', log, r.logMs) end
if #delivered > 0 then redis.call('HDEL', tries, unpack(delivered)) end
if #released > 0 then redis.call('HINCRBY', stats, 'delivered', #released) end

if #r.settled > 0 then
  if judged and failures >= b.failures then
    local cooldown = math.min(b.maxCooldownMs, b.cooldownMs * 2 ^ math.min(30, failures - b.failures))
    if disabledAt == 0 and now - failingSince >= b.disableAfterMs then
      disabledAt = now
      change = 'disabled'
    end
    if disabledAt > 0 then cooldown = b.probeEveryMs end
    notBefore = math.max(notBefore, now + cooldown)
  end
  redis.call('HSET', ep, 'failures', failures, 'failingSince', failingSince, 'disabledAt', disabledAt, 'notBefore', string.format('%.0f', notBefore), 'penalty', string.format('%.0f', penalty))
  if gone then redis.call('HSET', ep, 'gone', '1') end
end
if diedAt then
  redis.call('ZADD', letters, now, r.endpoint)
  local old = redis.call('ZRANGEBYSCORE', dead, '-inf', now - r.deadLetterMs, 'LIMIT', 0, 1000)
  if #old > 0 then
    redis.call('ZREM', dead, unpack(old))
    redis.call('HDEL', reasons, unpack(old))
    for _, event in ipairs(old) do released[#released + 1] = event end
  end
  redis.call('PEXPIRE', dead, r.deadLetterMs)
  redis.call('PEXPIRE', reasons, r.deadLetterMs)
end

if not mine then return answer('stale', 0) end
if r.removed and not state[8] then
  redis.call('HSET', ep, 'removed', '1')
  change = 'removed'
elseif state[8] and not r.removed then
  redis.call('HDEL', ep, 'removed')
end

-- The deliveries, those that may be attempted apart from those that waited too long.
local cut = now - r.retentionMs
local function sorted(members, claimed, lapsed)
  if #members == 0 then return end
  local names = {}
  for i = 1, #members, 2 do names[#names + 1] = members[i] end
  local used = redis.call('HMGET', tries, unpack(names))
  for i, event in ipairs(names) do
    local attempts, since = string.match(used[i] or '', '^(%d+):(%d+)$')
    since = since or members[i * 2]
    local list = (r.removed or tonumber(since) <= cut) and lapsed or claimed
    list[#list + 1], list[#list + 2], list[#list + 3] = event, attempts or '0', since
  end
end

local claimed, lapsed = {}, {}
-- A FIFO endpoint's first is where it was while it is being attempted.
if r.mayLapse > 0 and not (r.fifo and r.running > 0) then
  local old = redis.call('ZRANGEBYSCORE', due, '-inf', r.removed and '+inf' or cut, 'WITHSCORES', 'LIMIT', 0, r.mayLapse)
  sorted(old, lapsed, lapsed)
end

local frozen = gone or state[9] or r.removed
local want = r.want
if frozen or #lapsed > 0 then want = 0 end
if math.max(notBefore, penalty) > now then want = 0 end
if failures >= b.failures then want = math.min(want, r.running == 0 and 1 or 0) end
if r.fifo then want = math.min(want, r.running == 0 and 1 or 0) end

local tokens
if r.maxPerSecond > 0 then
  local bucket = redis.call('HMGET', ep, 'tokens', 'refilled')
  local burst = math.max(1, r.maxPerSecond)
  tokens = math.min(burst, tonumber(bucket[1] or burst) + (now - tonumber(bucket[2] or now)) * r.maxPerSecond / 1000)
  want = math.min(want, math.floor(tokens))
end

if want > 0 then
  local events
  if r.fifo then events = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  else events = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'WITHSCORES', 'LIMIT', 0, want) end
  sorted(events, claimed, lapsed)
end
if tokens then
  tokens = tokens - #claimed / 3
  redis.call('HSET', ep, 'tokens', tokens, 'refilled', now)
  if tokens < 1 then notBefore = math.max(notBefore, now + math.ceil((1 - tokens) * 1000 / r.maxPerSecond)) end
end
if not r.fifo and #claimed > 0 then
  local leased = {}
  for i = 1, #claimed, 3 do leased[#leased + 1], leased[#leased + 2] = now + r.leaseMs, claimed[i] end
  redis.call('ZADD', due, unpack(leased))
end

if #claimed > 0 or #lapsed > 0 or r.running > 0 then
  redis.call('HSET', ep, 'active', now + r.leaseMs)
  redis.call('ZADD', wakes, now + r.leaseMs, r.endpoint)
  return answer('run', 0, claimed, lapsed)
end

redis.call('HDEL', ep, 'active')
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
if #first == 0 then
  redis.call('ZREM', wakes, r.endpoint)
  if r.removed then redis.call('DEL', ep, tries) end
  return answer('done', 0)
end
-- Somebody must come when the first runs out, although the endpoint must not be called then.
local at = r.removed and now or first[2] + r.retentionMs
if not frozen then
  local callable = math.max(notBefore, penalty)
  if not r.fifo then callable = math.max(callable, tonumber(first[2])) end
  at = math.min(at, callable)
end
at = math.max(now, at)
redis.call('ZADD', wakes, at, r.endpoint)
return answer('rest', math.ceil(at - now))
`,
  { keys: 9, prelude: clock },
);
