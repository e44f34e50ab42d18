import { type RedisClient, script } from '@countersign/redis';
import { clock, waking } from './prelude.ts';
import { keysOf } from './shard.ts';
import { type Claimed, type Turn, type TurnRequest, turnScript } from './turn.ts';

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

const enqueueScript = script<
  readonly [
    endpoint: string,
    event: string,
    fifo: 0 | 1,
    again: 0 | 1,
    historyMs: number,
    retentionMs: number,
    deadLetterMs: number,
  ],
  readonly [added: 0 | 1, counted: 0 | 1, seq: number, delayMs: number]
>(
  `
local due, ep, wakes, dead, reasons, history, stats = unpack(KEYS)
local endpoint, event, historyMs = ARGV[1], ARGV[2], tonumber(ARGV[5])
local function isYoung(score, ms)
  return score and tonumber(score) > now - ms
end
local waiting, died = redis.call('ZSCORE', due, event), redis.call('ZSCORE', dead, event)
local added, known = 0, waiting
if not known and ARGV[4] == '0' then
  -- Whoever publishes has brought the payload again.
  local lost = died and string.match(redis.call('HGET', reasons, event) or '', ':payload%-missing$')
  known = not lost and (isYoung(died, ARGV[7]) or isYoung(redis.call('ZSCORE', history, event), historyMs))
end
if not known then
  added = 1
  if died then
    redis.call('ZREM', dead, event)
    redis.call('HDEL', reasons, event)
  end
  local score = now
  if ARGV[3] == '1' then
    -- Ever growing, although several are published in one millisecond.
    score = math.max(now, tonumber(redis.call('HGET', ep, 'fifo') or 0) + 1)
    redis.call('HSET', ep, 'fifo', score)
  end
  redis.call('ZADD', due, score, event)
  redis.call('HINCRBY', stats, 'published', 1)
  if historyMs > 0 then
    redis.call('ZADD', history, score, event)
    redis.call('ZREMRANGEBYSCORE', history, 0, now - historyMs)
    redis.call('PEXPIRE', history, historyMs)
  end
end
-- Also for a known one: whoever published it before may have crashed before it could queue the job.
local planned = wake({ due, ep, wakes }, endpoint, ARGV[6], false)
return { added, (waiting or died) and 1 or 0, planned[1], planned[2] }
`,
  { keys: 7, prelude: clock + waking },
);

const sweepScript = script<readonly [graceMs: number, limit: number], readonly string[]>(
  `return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])`,
  { keys: 1, prelude: clock },
);

const reviveScript = script<
  readonly [endpoint: string, graceMs: number, retentionMs: number],
  readonly [seq: number, delayMs: number]
>(
  `
local planned = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or -1)
if planned < 0 or planned > now - tonumber(ARGV[2]) then return { 0, 0 } end
return wake(KEYS, ARGV[1], ARGV[3], true)
`,
  { keys: 3, prelude: clock + waking },
);

const pauseScript = script<readonly [], number>(
  `return redis.call('HSET', KEYS[1], 'paused', '1')`,
  {
    keys: 1,
  },
);

const resumeScript = script<
  readonly [endpoint: string, retentionMs: number],
  readonly [seq: number, delayMs: number]
>(
  `
local due, ep = unpack(KEYS)
redis.call('HDEL', ep, 'paused', 'gone', 'disabledAt', 'failures', 'failingSince', 'notBefore', 'penalty')
if redis.call('ZCARD', due) == 0 then return { 0, 0 } end
return wake(KEYS, ARGV[1], ARGV[2], true)
`,
  { keys: 3, prelude: clock + waking },
);

/** Those that are kept still. What is too old stays until a turn or Redis removes it. */
const kept = `
local function countKept(dead, deadLetterMs)
  return redis.call('ZCOUNT', dead, '(' .. string.format('%.0f', now - deadLetterMs), '+inf')
end
`;

const stateScript = script<
  readonly [deadLetterMs: number],
  readonly [pending: number, dead: number, state: readonly (string | null)[]]
>(
  `
return { redis.call('ZCARD', KEYS[1]), countKept(KEYS[2], ARGV[1]),
  redis.call('HMGET', KEYS[3], 'paused', 'gone', 'disabledAt', 'failingSince') }
`,
  { keys: 3, prelude: clock + kept },
);

const deadScript = script<
  readonly [offset: number, limit: number, deadLetterMs: number],
  readonly [members: readonly string[], reasons: readonly (string | null)[]]
>(
  `
local first = redis.call('ZCARD', KEYS[1]) - countKept(KEYS[1], ARGV[3]) + ARGV[1]
local members = redis.call('ZRANGE', KEYS[1], first, first + ARGV[2] - 1, 'WITHSCORES')
if #members == 0 then return { {}, {} } end
local names = {}
for i = 1, #members, 2 do names[#names + 1] = members[i] end
return { members, redis.call('HMGET', KEYS[2], unpack(names)) }
`,
  { keys: 2, prelude: clock + kept },
);

const lettersScript = script<readonly [deadLetterMs: number], readonly string[]>(
  `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, -1)
`,
  { keys: 1, prelude: clock },
);

const sinceScript = script<
  readonly [fromMs: string, toMs: string, limit: number],
  readonly [to: string, members: readonly string[]]
>(
  `
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local to = ARGV[2]
-- Those of a FIFO endpoint may be a little ahead of the time.
if to == '' then to = string.format('%.3f', math.max(now, tonumber(last[2] or 0))) end
return { to, redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], to, 'WITHSCORES', 'LIMIT', 0, ARGV[3]) }
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
    options: { readonly fifo: boolean; readonly again: boolean },
  ): Promise<Enqueued>;
  turn(request: Omit<TurnRequest, 'retentionMs' | 'deadLetterMs'>): Promise<Turn>;
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
  /** Endpoints that may have dead letters, those that are not there any more included. */
  mourned(): Promise<readonly string[]>;
  dead(
    endpoint: string,
    offset: number,
    limit: number,
  ): Promise<readonly { event: string; atMs: number; attempts: number; reason: string }[]>;
  /** Events that were published, or became dead, between then and now; each once, some at a time. */
  since(endpoint: string, sinceMs: number): AsyncIterable<readonly string[]>;
}

export interface Enqueued {
  /** `false`: it was known. */
  readonly added: boolean;
  /** It was pending or a dead letter, so one reference to its payload was counted before. */
  readonly counted: boolean;
  readonly wake: Wake | undefined;
}

export interface LedgerOptions {
  readonly prefix: string;
  readonly shard: number;
  readonly timeoutMs: number;
  /** How long a delivery may wait. */
  readonly retentionMs: number;
  /** How long dead letters are kept. */
  readonly deadLetterMs: number;
  /** How long it is remembered what was published. */
  readonly historyMs: number;
}

/** How many events are read at a time, and handed on at a time. */
const PAGE = 1000;
const AT_ONCE = 250;

export function createLedger(redis: RedisClient, options: LedgerOptions): Ledger {
  const { prefix, shard, timeoutMs, retentionMs, deadLetterMs, historyMs } = options;
  const call = { timeoutMs };
  const keys = (endpoint: string): ReturnType<typeof keysOf> => keysOf(prefix, shard, endpoint);
  const wakeOf = ([seq, delayMs]: readonly [number, number]): Wake | undefined =>
    seq === 0 ? undefined : { seq, delayMs };

  return {
    async enqueue(endpoint, event, { fifo, again }) {
      const k = keys(endpoint);
      const [added, counted, seq, delayMs] = await enqueueScript(
        redis,
        [k.due, k.state, k.wakes, k.dead, k.reasons, k.history, k.stats],
        [endpoint, event, fifo ? 1 : 0, again ? 1 : 0, historyMs, retentionMs, deadLetterMs],
        call,
      );
      return { added: added === 1, counted: counted === 1, wake: wakeOf([seq, delayMs]) };
    },
    async turn(request) {
      const k = keys(request.endpoint);
      const whole: TurnRequest = { ...request, retentionMs, deadLetterMs };
      const [next, restMs, claimed, lapsed, released, change, pending] = await turnScript(
        redis,
        [k.due, k.state, k.wakes, k.dead, k.reasons, k.tries, k.log, k.stats, k.letters],
        [JSON.stringify(whole)],
        call,
      );
      return {
        next,
        restMs,
        claimed: claims(claimed),
        lapsed: claims(lapsed),
        released,
        change,
        pending,
      };
    },
    overdue: async (graceMs, limit) =>
      await sweepScript(redis, [keys('').wakes], [graceMs, limit], call),
    sequence: async (endpoint) => await sequenceScript(redis, [keys(endpoint).state], [], call),
    async counters() {
      const flat = await countersScript(redis, [keys('').stats], [], call);
      const names = flat.filter((_, index) => index % 2 === 0);
      return Object.fromEntries(names.map((name, index) => [name, Number(flat[index * 2 + 1])]));
    },
    log: async (endpoint, limit) => await logScript(redis, [keys(endpoint).log], [limit], call),
    revive: async (endpoint, graceMs) => {
      const k = keys(endpoint);
      const args = [endpoint, graceMs, retentionMs] as const;
      return wakeOf(await reviveScript(redis, [k.due, k.state, k.wakes], args, call));
    },
    async pause(endpoint) {
      await pauseScript(redis, [keys(endpoint).state], [], call);
    },
    async resume(endpoint) {
      const k = keys(endpoint);
      const args = [endpoint, retentionMs] as const;
      return wakeOf(await resumeScript(redis, [k.due, k.state, k.wakes], args, call));
    },
    async state(endpoint) {
      const k = keys(endpoint);
      const [pending, dead, [paused, gone, disabledAt, failingSince]] = await stateScript(
        redis,
        [k.due, k.dead, k.state],
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
    mourned: async () => await lettersScript(redis, [keys('').letters], [deadLetterMs], call),
    async dead(endpoint, offset, limit) {
      const k = keys(endpoint);
      const range = [offset, limit, deadLetterMs] as const;
      const [members, reasons] = await deadScript(redis, [k.dead, k.reasons], range, call);
      return reasons.map((text, index) => {
        const [, attempts = '0', reason = ''] = /^(\d+):(.*)$/.exec(text ?? '') ?? [];
        const atMs = Math.floor(Number(members[index * 2 + 1]));
        return { event: members[index * 2] ?? '', atMs, attempts: Number(attempts), reason };
      });
    },
    async *since(endpoint, sinceMs) {
      const k = keys(endpoint);
      const seen = new Set<string>();
      for (const key of [k.history, k.dead]) {
        // What is delivered again meanwhile is published anew, and must not be met again.
        let to = '';
        let from = String(Math.max(0, Math.floor(sinceMs)));
        for (let limit = PAGE; ; ) {
          const [end, flat] = await sinceScript(redis, [key], [from, to, limit], call);
          to = end;
          const fresh = flat.filter((event, index) => index % 2 === 0 && !seen.has(event));
          for (const event of fresh) seen.add(event);
          for (let first = 0; first < fresh.length; first += AT_ONCE) {
            yield fresh.slice(first, first + AT_ONCE);
          }
          if (flat.length < 2 * limit) break;
          const last = flat.at(-1) ?? from;
          // More than a page at one time: a larger one gets past it.
          limit = last === from ? 2 * limit : PAGE;
          from = last;
        }
      }
    },
  };
}

function claims(flat: readonly string[]): readonly Claimed[] {
  const claimed: Claimed[] = [];
  for (let index = 0; index < flat.length; index += 3) {
    const [event = '', attempts, sinceMs] = flat.slice(index, index + 3);
    claimed.push({ event, attempts: Number(attempts), sinceMs: Number(sinceMs) });
  }
  return claimed;
}
