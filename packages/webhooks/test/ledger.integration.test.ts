import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLedger, type Ledger } from '../src/bullmq/ledger.ts';
import type { Claimed, Settlement, Turn } from '../src/bullmq/turn.ts';
import { rewind } from './queue-fixture.ts';

let server: RedisServer;
let redis: Redis;
const [leaseMs, retentionMs] = [20_000, 1_000_000];
/** Real time that passes during a run is noise. */
const noiseMs = 10_000;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(async () => {
  await server.stop();
});

type Step =
  | { readonly do: 'publish'; readonly event: string; readonly again: boolean }
  | {
      readonly do: 'turn';
      readonly want: number;
      readonly settle: readonly Ending[];
      readonly removed: boolean;
    }
  | { readonly do: 'crash' | 'pause' | 'resume' | 'revive' }
  | { readonly do: 'pass'; readonly ms: number };

const events = ['a', 'b', 'c'].map((name) => `evt_${name}`);
/** `later`: put off, to be tried again in a while. */
type Ending = 'delivered' | 'retry' | 'dead' | 'gone' | 'defer' | 'later';
const endings: readonly Ending[] = [
  'delivered',
  'retry',
  'retry',
  'dead',
  'gone',
  'defer',
  'later',
];
const plain = (name: 'crash' | 'pause' | 'resume' | 'revive') => fc.constant({ do: name } as const);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('publish' as const),
      event: fc.constantFrom(...events),
      again: fc.boolean(),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('turn' as const),
      want: fc.integer({ min: 0, max: 3 }),
      settle: fc.array(fc.constantFrom(...endings), { maxLength: 4 }),
      removed: fc.integer({ min: 0, max: 15 }).map((odds) => odds === 0),
    }),
  },
  { weight: 1, arbitrary: plain('crash') },
  { weight: 1, arbitrary: plain('pause') },
  { weight: 2, arbitrary: plain('resume') },
  { weight: 2, arbitrary: plain('revive') },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.constantFrom(6000, leaseMs + noiseMs, retentionMs / 2, retentionMs / 2, retentionMs),
    }),
  },
);

const publish: Step = { do: 'publish', event: 'evt_a', again: false };
const pass = (ms: number): Step => ({ do: 'pass', ms });
const turn = (settle: readonly Ending[] = []): Step => ({
  do: 'turn',
  want: 1,
  settle,
  removed: false,
});
/** What chance finds seldom. */
const examples: [Step[]][] = [
  // What is put off has waited all along.
  [[publish, pass(retentionMs / 2), turn(), turn(['defer']), pass(retentionMs / 2), turn()]],
  [[publish, pass(retentionMs / 2), turn(), turn(['later']), pass(retentionMs / 2), turn()]],
  [[publish, pass(retentionMs / 2), turn(), turn(['gone']), pass(retentionMs / 2), turn()]],
  [[publish, pass(retentionMs / 2), turn(), turn(['retry']), pass(retentionMs / 2), turn()]],
  // It runs out while it is being attempted.
  [[publish, pass(retentionMs - 5000), turn(), pass(6000), turn(), turn(['delivered'])]],
  [[publish, turn(), { do: 'turn', want: 0, settle: [], removed: true }, turn(['delivered'])]],
];

/** A worker that does what a drain job does, one step at a time, against what must be true. */
class Run {
  readonly ledger: Ledger;
  readonly fifo: boolean;
  /** Since when each event waits that is neither delivered nor dead. */
  readonly waiting = new Map<string, number>();
  /** Of which it is written down since when they wait. */
  readonly noted = new Set<string>();
  readonly ended = new Map<string, 'delivered' | 'dead'>();
  held: readonly (Claimed & { readonly claimedAtMs: number })[] = [];
  passedMs = 0;

  constructor(fifo: boolean) {
    this.fifo = fifo;
    const forever = 1e10;
    this.ledger = createLedger(redis, {
      prefix: 'p',
      shard: 0,
      timeoutMs: 5000,
      retentionMs,
      deadLetterMs: forever,
      historyMs: 0,
    });
  }

  async take(step: Step): Promise<void> {
    switch (step.do) {
      case 'publish': {
        const { added } = await this.ledger.enqueue('ep', step.event, {
          fifo: this.fifo,
          again: step.again,
        });
        const dead = this.ended.get(step.event) === 'dead' && !step.again;
        expect(added).toBe(!this.waiting.has(step.event) && !dead);
        if (!added) return;
        this.waiting.set(step.event, this.passedMs);
        this.ended.delete(step.event);
        return;
      }
      case 'crash':
        this.#drop();
        return;
      case 'pause':
        return await this.ledger.pause('ep');
      case 'resume':
        await this.ledger.resume('ep');
        return;
      case 'revive':
        await this.ledger.revive('ep', 0);
        return;
      case 'pass':
        // Their leases will be over: whoever holds them is taken to be dead.
        if (step.ms > leaseMs) this.#drop();
        await rewind(redis, step.ms);
        this.passedMs += step.ms;
        return;
      default:
        return await this.#turn(step);
    }
  }

  async #turn({ want, settle, removed }: Step & { do: 'turn' }): Promise<void> {
    const settled = settle.slice(0, this.held.length).map((ending, index): Settlement => {
      const { claimedAtMs: _, ...claim } = this.held[index] as Run['held'][number];
      const attempts = claim.attempts + (ending === 'retry' || ending === 'dead' ? 1 : 0);
      const waits = ending === 'retry' || ending === 'later';
      if (waits) this.noted.add(claim.event);
      const kind = ending === 'later' ? 'defer' : ending;
      return { ...claim, attempts, kind, ...(waits && { delayMs: 5000 }) };
    });
    this.held = this.held.slice(settled.length);
    const turn = await this.#ask(settled, want, removed);
    for (const { event, kind } of settled) {
      if (kind === 'delivered') this.#end(event, 'delivered');
      if (kind === 'dead' && this.waiting.has(event)) this.#end(event, 'dead');
    }
    for (const { event } of turn.claimed) {
      expect(this.held.map((claim) => claim.event)).not.toContain(event);
      expect(this.#waited(event)).toBeLessThan(retentionMs);
    }
    this.held = [
      ...this.held,
      ...turn.claimed.map((claim) => ({ ...claim, claimedAtMs: this.passedMs })),
    ];
    if (turn.lapsed.length === 0) return;
    for (const { event } of turn.lapsed) {
      if (removed) continue;
      expect(this.#waited(event)).toBeGreaterThanOrEqual(retentionMs - noiseMs);
      expect(this.held.map((claim) => claim.event)).not.toContain(event);
    }
    await this.#ask(
      turn.lapsed.map((claim) => ({ ...claim, kind: 'lapsed', reason: 'expired' })),
      0,
      removed,
    );
    for (const { event } of turn.lapsed) this.#end(event, 'dead');
  }

  async #ask(settled: readonly Settlement[], want: number, removed: boolean): Promise<Turn> {
    const seq = await this.ledger.sequence('ep');
    return await this.ledger.turn({
      endpoint: 'ep',
      seq,
      removed,
      want,
      running: this.held.length,
      mayLapse: 500,
      leaseMs,
      fifo: this.fifo,
      maxPerSecond: 0,
      logEntries: 10,
      logMs: 1000,
      settled,
      breaker: {
        failures: 3,
        cooldownMs: 1000,
        maxCooldownMs: 8000,
        disableAfterMs: 30_000,
        probeEveryMs: 60_000,
      },
    });
  }

  /** When a worker crashes, the end of its lease takes the place of when its deliveries began to wait. */
  #drop(): void {
    for (const { event, claimedAtMs } of this.held) {
      const forgets = !this.fifo && !this.noted.has(event) && this.waiting.has(event);
      if (forgets) this.waiting.set(event, claimedAtMs + leaseMs);
    }
    this.held = [];
  }

  #waited(event: string): number {
    return this.passedMs - (this.waiting.get(event) ?? Number.NaN);
  }

  #end(event: string, how: 'delivered' | 'dead'): void {
    this.waiting.delete(event);
    this.noted.delete(event);
    this.ended.set(event, how);
  }

  async check(): Promise<void> {
    const [due, letters, mourned, counters, comesAtMs] = await Promise.all([
      redis.zrange('p:{0}:due:ep', '0', '-1', 'WITHSCORES'),
      this.ledger.dead('ep', 0, 100),
      this.ledger.mourned(),
      this.ledger.counters(),
      redis.zscore('p:{0}:wakes', 'ep'),
    ]);
    const names = due.filter((_, index) => index % 2 === 0);
    expect(new Set(names)).toEqual(new Set(this.waiting.keys()));
    const dead = [...this.ended].filter(([, how]) => how === 'dead').map(([event]) => event);
    expect(new Set(letters.map(({ event }) => event))).toEqual(new Set(dead));
    if (dead.length > 0) expect(mourned).toEqual(['ep']);
    const { published = 0, delivered = 0, dead: died = 0 } = counters;
    expect(published - delivered - died).toBe(this.waiting.size);
    // Somebody comes, and not after the first has waited for too long.
    if (names.length === 0) return;
    expect(comesAtMs).not.toBeNull();
    const runsOutAtMs = Math.max(Date.now(), Number(due[1]) + retentionMs);
    expect(Number(comesAtMs)).toBeLessThanOrEqual(runsOutAtMs + leaseMs);
  }
}

test.each([false, true])(
  'loses nothing, and has somebody come, whatever happens (FIFO: %s)',
  async (fifo) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), async (steps) => {
        await redis.flushall();
        const run = new Run(fifo);
        for (const each of steps) {
          await run.take(each);
          await run.check();
        }
      }),
      { numRuns: 60, examples },
    );
  },
);
