import { type RedisClient, script } from '@countersign/redis';
import { keysOf } from './shard.ts';

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

/** What the ledger is told about an attempt. */
export interface Settlement {
  readonly event: string;
  /** `defer`: try again without having used up an attempt. */
  readonly kind: 'delivered' | 'retry' | 'dead' | 'gone' | 'defer';
  /** Attempts used up so far. */
  readonly attempts: number;
  /** For `retry`. */
  readonly delayMs?: number;
  /** The endpoint asked to be left alone for this long. */
  readonly penaltyMs?: number;
  /** Why it is dead. */
  readonly reason?: string;
  /** The line of the attempt log. */
  readonly log?: string;
}

export interface Claimed {
  readonly event: string;
  /** Attempts used up before. */
  readonly attempts: number;
}

/** What a drain job does next. */
export interface Turn {
  /** `run`: attempt what was claimed. `rest`: come back at `atMs`. `done`: nothing is left. `stale`: another job took over. */
  readonly next: 'run' | 'rest' | 'done' | 'stale';
  readonly atMs: number;
  readonly claimed: readonly Claimed[];
  /** Events whose delivery ended with this turn, and had not before. */
  readonly ended: readonly string[];
  /** `disabled` or `enabled`, when this turn did that. */
  readonly change: string;
}

export interface TurnRequest {
  readonly endpoint: string;
  readonly seq: number;
  /** How many more attempts could be made at the same time. */
  readonly want: number;
  /** How many are being made. */
  readonly running: number;
  readonly leaseMs: number;
  readonly fifo: boolean;
  readonly maxPerSecond: number;
  readonly logEntries: number;
  readonly logMs: number;
  readonly settled: readonly Settlement[];
  readonly breaker: BreakerSettings;
}

/** A wake-up to be queued: a drain job for the endpoint. */
export interface Wake {
  readonly seq: number;
  readonly delayMs: number;
}

export interface EndpointState {
  readonly pending: number;
  readonly dead: number;
  /** `disabled`: after failing for long, or by 410 (`gone`). */
  readonly status: 'active' | 'failing' | 'paused' | 'disabled';
  readonly reason: string | undefined;
  readonly failingSinceMs: number | undefined;
}

const clock = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Has somebody come at the given time, unless somebody comes anyway. Returns the number of the drain job to queue, or 0.
local function wake(ep, wakes, endpoint, force)
  local state = redis.call('HMGET', ep, 'active', 'paused', 'gone', 'notBefore', 'penalty')
  if state[2] or state[3] then return { 0, 0 } end
  if tonumber(state[1] or 0) > now then return { 0, 0 } end
  local at = math.max(now, tonumber(state[4] or 0), tonumber(state[5] or 0))
  local planned = tonumber(redis.call('ZSCORE', wakes, endpoint) or -1)
  if planned >= 0 and planned <= at and not force then return { 0, 0 } end
  redis.call('ZADD', wakes, at, endpoint)
  -- From the time on: an endpoint that was forgotten and is there again must not meet the jobs of before.
  redis.call('HSETNX', ep, 'seq', string.format('%.0f', now))
  return { redis.call('HINCRBY', ep, 'seq', 1), at - now }
end
`;

/** Removes dead letters that are older than they are kept. */
const graveyard = `
local function bury(dead, reasons, ms)
  local old = redis.call('ZRANGEBYSCORE', dead, '-inf', now - ms, 'LIMIT', 0, 1000)
  if #old == 0 then return end
  redis.call('ZREM', dead, unpack(old))
  redis.call('HDEL', reasons, unpack(old))
end
`;

const enqueueScript = script<
  readonly [endpoint: string, event: string, fifo: 0 | 1, historyMs: number, again: 0 | 1],
  readonly [added: 0 | 1, seq: number, delayMs: number]
>(
  `
local due, ep, wakes, dead, reasons, history, stats = unpack(KEYS)
local endpoint, event, historyMs = ARGV[1], ARGV[2], tonumber(ARGV[4])
local added = 0
local known = redis.call('ZSCORE', due, event)
if not known and ARGV[5] == '0' then
  known = redis.call('ZSCORE', dead, event) or redis.call('ZSCORE', history, event)
end
if not known then
  added = 1
  if redis.call('ZREM', dead, event) == 1 then redis.call('HDEL', reasons, event) end
  local score = now
  if ARGV[3] == '1' then
    -- Ever growing, although several are published in one millisecond.
    score = math.max(now, tonumber(redis.call('HGET', ep, 'fifo') or 0) + 1)
    redis.call('HSET', ep, 'fifo', score)
  end
  redis.call('ZADD', due, score, event)
  redis.call('HINCRBY', stats, 'published', 1)
  if historyMs > 0 then
    redis.call('ZADD', history, now, event)
    redis.call('ZREMRANGEBYSCORE', history, 0, now - historyMs)
    redis.call('PEXPIRE', history, historyMs)
  end
end
-- Also for a known one: whoever published it before may have crashed before it could queue the job.
local planned = wake(ep, wakes, endpoint, false)
return { added, planned[1], planned[2] }
`,
  { keys: 7, prelude: clock },
);

const turnScript = script<
  readonly [request: string, deadLetterMs: number],
  readonly [next: string, atMs: number, claimed: string[], ended: string[], change: string]
>(
  `
local due, ep, wakes, dead, reasons, tries, log, stats = unpack(KEYS)
local r = cjson.decode(ARGV[1])
local b = r.breaker
local ended, change = {}, ''
local state = redis.call('HMGET', ep, 'seq', 'failures', 'failingSince', 'disabledAt', 'notBefore', 'gone', 'penalty')
local mine = tonumber(state[1] or 0) == r.seq
local failures, failingSince = tonumber(state[2] or 0), tonumber(state[3] or 0)
local disabledAt, notBefore, gone = tonumber(state[4] or 0), tonumber(state[5] or 0), state[6]
-- What the endpoint asked for holds although another attempt succeeded meanwhile.
local penalty = tonumber(state[7] or 0)

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

for _, o in ipairs(r.settled) do
  if o.log then
    redis.call('XADD', log, 'MAXLEN', '~', r.logEntries, '*', 'e', o.event, 'l', o.log)
    redis.call('PEXPIRE', log, r.logMs)
  end
  if o.kind == 'delivered' then
    redis.call('HDEL', tries, o.event)
    if redis.call('ZREM', due, o.event) == 1 then
      ended[#ended + 1] = o.event
      redis.call('HINCRBY', stats, 'delivered', 1)
    end
    if disabledAt > 0 then change = 'enabled' end
    failures, failingSince, disabledAt, notBefore = 0, 0, 0, 0
  elseif o.kind == 'dead' then
    if redis.call('ZREM', due, o.event) == 1 then
      redis.call('ZADD', dead, now, o.event)
      redis.call('HSET', reasons, o.event, o.attempts .. ':' .. (o.reason or ''))
      redis.call('HDEL', tries, o.event)
      redis.call('HINCRBY', stats, 'dead', 1)
      bury(dead, reasons, ARGV[2])
      redis.call('PEXPIRE', dead, ARGV[2])
      redis.call('PEXPIRE', reasons, ARGV[2])
      -- A payload that ran out is nothing that the endpoint did.
      if o.reason ~= 'payload-expired' then countFailure() end
    end
  elseif redis.call('ZSCORE', due, o.event) then
    local at = now
    if o.kind == 'retry' then
      at = now + o.delayMs
      redis.call('HSET', tries, o.event, o.attempts)
      redis.call('HINCRBY', stats, 'retried', 1)
      countFailure()
    elseif o.kind == 'gone' then
      gone = '1'
      change = 'disabled'
    end
    if r.fifo then notBefore = math.max(notBefore, at) else redis.call('ZADD', due, at, o.event) end
  end
  if o.penaltyMs then penalty = math.max(penalty, now + o.penaltyMs) end
end

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

if not mine then return { 'stale', 0, {}, ended, change } end
if gone or redis.call('HEXISTS', ep, 'paused') == 1 then
  redis.call('ZREM', wakes, r.endpoint)
  redis.call('HDEL', ep, 'active')
  return { 'done', 0, {}, ended, change }
end

local want = r.want
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

local events = {}
if want > 0 then
  if r.fifo then events = redis.call('ZRANGE', due, 0, 0)
  else events = redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, want) end
end
if tokens then
  tokens = tokens - #events
  redis.call('HSET', ep, 'tokens', tokens, 'refilled', now)
  if tokens < 1 then notBefore = math.max(notBefore, now + math.ceil((1 - tokens) * 1000 / r.maxPerSecond)) end
end

local claimed = {}
if #events > 0 then
  local used = redis.call('HMGET', tries, unpack(events))
  for i, event in ipairs(events) do
    if not r.fifo then redis.call('ZADD', due, now + r.leaseMs, event) end
    claimed[#claimed + 1] = event
    claimed[#claimed + 1] = used[i] or '0'
  end
end
if #events > 0 or r.running > 0 then
  redis.call('HSET', ep, 'active', now + r.leaseMs)
  redis.call('ZADD', wakes, now + r.leaseMs, r.endpoint)
  return { 'run', 0, claimed, ended, change }
end

redis.call('HDEL', ep, 'active')
local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
if #first == 0 then
  redis.call('ZREM', wakes, r.endpoint)
  return { 'done', 0, {}, ended, change }
end
local at = math.max(now, notBefore, penalty)
if not r.fifo then at = math.max(at, tonumber(first[2])) end
redis.call('ZADD', wakes, at, r.endpoint)
return { 'rest', at, {}, ended, change }
`,
  { keys: 8, prelude: clock + graveyard },
);

const sweepScript = script<readonly [graceMs: number, limit: number], readonly string[]>(
  `return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])`,
  { keys: 1, prelude: clock },
);

const reviveScript = script<
  readonly [endpoint: string, graceMs: number],
  readonly [seq: number, delayMs: number]
>(
  `
local planned = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1]) or -1)
if planned < 0 or planned > now - tonumber(ARGV[2]) then return { 0, 0 } end
return wake(KEYS[1], KEYS[2], ARGV[1], true)
`,
  { keys: 2, prelude: clock },
);

const switchScript = script<
  readonly [endpoint: string, action: 'pause' | 'resume'],
  readonly [seq: number, delayMs: number]
>(
  `
local due, ep, wakes = unpack(KEYS)
if ARGV[2] == 'pause' then
  redis.call('HSET', ep, 'paused', '1')
  redis.call('ZREM', wakes, ARGV[1])
  return { 0, 0 }
end
redis.call('HDEL', ep, 'paused', 'gone', 'disabledAt', 'failures', 'failingSince', 'notBefore', 'penalty')
if redis.call('ZCARD', due) == 0 then return { 0, 0 } end
return wake(ep, wakes, ARGV[1], true)
`,
  { keys: 3, prelude: clock },
);

const stateScript = script<
  readonly [deadLetterMs: number],
  readonly [number, number, (string | null)[]]
>(
  `
bury(KEYS[2], KEYS[4], ARGV[1])
return { redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]),
  redis.call('HMGET', KEYS[3], 'paused', 'gone', 'disabledAt', 'failingSince') }
`,
  { keys: 4, prelude: clock + graveyard },
);

const forgetScript = script<readonly [endpoint: string], number>(
  `
local left = redis.call('ZCARD', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HINCRBY', KEYS[9], 'forgotten', left)
redis.call('DEL', KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
return left
`,
  { keys: 9 },
);

const deadScript = script<
  readonly [from: number, to: number, deadLetterMs: number],
  readonly [members: string[], reasons: (string | null)[]]
>(
  `
bury(KEYS[1], KEYS[2], ARGV[3])
local members = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES')
if #members == 0 then return { {}, {} } end
local names = {}
for i = 1, #members, 2 do names[#names + 1] = members[i] end
return { members, redis.call('HMGET', KEYS[2], unpack(names)) }
`,
  { keys: 2, prelude: clock + graveyard },
);

const sinceScript = script<
  readonly [fromMs: number, toMs: number, limit: number],
  readonly [now: number, members: string[]]
>(
  `
local to = math.min(now, tonumber(ARGV[2]))
return { now, redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], string.format('%.0f', to), 'WITHSCORES', 'LIMIT', 0, ARGV[3]) }
`,
  { keys: 1, prelude: clock },
);

const sequenceScript = script<readonly [], number>(
  `return tonumber(redis.call('HGET', KEYS[1], 'seq') or 0)`,
  { keys: 1 },
);

const countersScript = script<readonly [], readonly string[]>(
  `return redis.call('HGETALL', KEYS[1])`,
  { keys: 1 },
);

const logScript = script<readonly [limit: number], readonly (readonly [string, string])[]>(
  `
local lines = {}
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])) do
  lines[#lines + 1] = { entry[2][2], entry[2][4] }
end
return lines
`,
  { keys: 1 },
);

/** What is pending for each endpoint of one shard, and when it is tried again. Each method is one round trip. */
export interface Ledger {
  enqueue(
    endpoint: string,
    event: string,
    options: { readonly fifo: boolean; readonly historyMs: number; readonly again: boolean },
  ): Promise<{ readonly added: boolean; readonly wake: Wake | undefined }>;
  turn(request: TurnRequest): Promise<Turn>;
  /** Endpoints that somebody should have come for, `graceMs` ago. */
  overdue(graceMs: number, limit: number): Promise<readonly string[]>;
  /** The number of the endpoint's latest drain job. */
  sequence(endpoint: string): Promise<number>;
  revive(endpoint: string, graceMs: number): Promise<Wake | undefined>;
  counters(): Promise<Readonly<Record<string, number>>>;
  /** The latest attempts, newest first: event and log line. */
  log(
    endpoint: string,
    limit: number,
  ): Promise<readonly (readonly [event: string, line: string])[]>;
  pause(endpoint: string): Promise<void>;
  resume(endpoint: string): Promise<Wake | undefined>;
  state(endpoint: string): Promise<EndpointState>;
  /** Forgets an endpoint that was removed; says how many deliveries were pending. */
  forget(endpoint: string): Promise<number>;
  dead(
    endpoint: string,
    offset: number,
    limit: number,
  ): Promise<readonly { event: string; atMs: number; attempts: number; reason: string }[]>;
  /** Events that were published, or became dead, between then and now; each once. */
  since(endpoint: string, sinceMs: number): AsyncIterable<string>;
}

export interface LedgerOptions {
  readonly prefix: string;
  readonly shard: number;
  readonly timeoutMs: number;
  /** How long dead letters are kept. */
  readonly deadLetterMs: number;
}

/** How many events are read at a time. */
const PAGE = 1000;

export function createLedger(redis: RedisClient, options: LedgerOptions): Ledger {
  const { prefix, shard, timeoutMs, deadLetterMs } = options;
  const call = { timeoutMs };
  const keys = (endpoint: string): ReturnType<typeof keysOf> => keysOf(prefix, shard, endpoint);
  const wakeOf = ([seq, delayMs]: readonly [number, number]): Wake | undefined =>
    seq === 0 ? undefined : { seq, delayMs };

  return {
    async enqueue(endpoint, event, { fifo, historyMs, again }) {
      const k = keys(endpoint);
      const [added, seq, delayMs] = await enqueueScript(
        redis,
        [k.due, k.state, k.wakes, k.dead, k.reasons, k.history, k.stats],
        [endpoint, event, fifo ? 1 : 0, historyMs, again ? 1 : 0],
        call,
      );
      return { added: added === 1, wake: wakeOf([seq, delayMs]) };
    },
    async turn(request) {
      const k = keys(request.endpoint);
      const [next, atMs, claimed, ended, change] = await turnScript(
        redis,
        [k.due, k.state, k.wakes, k.dead, k.reasons, k.tries, k.log, k.stats],
        [JSON.stringify(request), deadLetterMs],
        call,
      );
      return { next: next as Turn['next'], atMs, claimed: pairs(claimed), ended, change };
    },
    overdue: async (graceMs, limit) =>
      await sweepScript(redis, [keys('').wakes], [graceMs, limit], call),
    sequence: async (endpoint) => await sequenceScript(redis, [keys(endpoint).state], [], call),
    async counters() {
      const flat = await countersScript(redis, [keys('').stats], [], call);
      const entries = pairs(flat).map(({ event, attempts }) => [event, attempts] as const);
      return Object.fromEntries(entries);
    },
    log: async (endpoint, limit) => await logScript(redis, [keys(endpoint).log], [limit], call),
    revive: async (endpoint, graceMs) => {
      const k = keys(endpoint);
      return wakeOf(await reviveScript(redis, [k.state, k.wakes], [endpoint, graceMs], call));
    },
    async pause(endpoint) {
      const k = keys(endpoint);
      await switchScript(redis, [k.due, k.state, k.wakes], [endpoint, 'pause'], call);
    },
    async resume(endpoint) {
      const k = keys(endpoint);
      return wakeOf(
        await switchScript(redis, [k.due, k.state, k.wakes], [endpoint, 'resume'], call),
      );
    },
    async state(endpoint) {
      const k = keys(endpoint);
      const [pending, dead, [paused, gone, disabledAt, failingSince]] = await stateScript(
        redis,
        [k.due, k.dead, k.state, k.reasons],
        [deadLetterMs],
        call,
      );
      const failingSinceMs = Number(failingSince ?? 0) || undefined;
      const disabled = Boolean(gone) || Number(disabledAt ?? 0) > 0;
      const status = paused
        ? 'paused'
        : disabled
          ? 'disabled'
          : failingSinceMs
            ? 'failing'
            : 'active';
      const reason = gone ? 'gone' : disabled ? 'failing' : undefined;
      return { pending, dead, status, reason, failingSinceMs };
    },
    async forget(endpoint) {
      const k = keys(endpoint);
      const all = [k.due, k.state, k.wakes, k.dead, k.reasons, k.tries, k.history, k.log, k.stats];
      return await forgetScript(redis, all, [endpoint], call);
    },
    async dead(endpoint, offset, limit) {
      const k = keys(endpoint);
      const range = [offset, offset + limit - 1, deadLetterMs] as const;
      const [members, reasons] = await deadScript(redis, [k.dead, k.reasons], range, call);
      return reasons.map((text, index) => {
        const [, attempts = '0', reason = ''] = /^(\d+):(.*)$/.exec(text ?? '') ?? [];
        const atMs = Number(members[index * 2 + 1]);
        return { event: members[index * 2] ?? '', atMs, attempts: Number(attempts), reason };
      });
    },
    async *since(endpoint, sinceMs) {
      const k = keys(endpoint);
      const seen = new Set<string>();
      // What is delivered again meanwhile is published anew, and must not be met again.
      let untilMs = Number.MAX_SAFE_INTEGER;
      for (const key of [k.history, k.dead]) {
        let fromMs = Math.max(0, Math.floor(sinceMs));
        for (let limit = PAGE; ; ) {
          const [now, flat] = await sinceScript(redis, [key], [fromMs, untilMs, limit], call);
          untilMs = Math.min(untilMs, now);
          for (let index = 0; index < flat.length; index += 2) {
            const event = flat[index] as string;
            if (seen.has(event)) continue;
            seen.add(event);
            yield event;
          }
          if (flat.length < 2 * limit) break;
          const lastMs = Number(flat.at(-1));
          // More than a page in one millisecond: a larger one gets past it.
          limit = lastMs === fromMs ? 2 * limit : PAGE;
          fromMs = lastMs;
        }
      }
    },
  };
}

function pairs(flat: readonly string[]): readonly Claimed[] {
  const claimed: Claimed[] = [];
  for (let index = 0; index < flat.length; index += 2) {
    claimed.push({ event: flat[index] ?? '', attempts: Number(flat[index + 1]) });
  }
  return claimed;
}
