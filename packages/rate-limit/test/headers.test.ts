import { fakeClock } from '@countersign/testkit/clock';
import fc from 'fast-check';
import { parseRateLimit } from 'ratelimit-header-parser';
import { type BareItem, parseList } from 'structured-headers';
import { Headers as UndiciHeaders } from 'undici';
import { describe, expect, test } from 'vitest';
import {
  concurrency,
  createRateLimiter,
  type Decision,
  fixedWindow,
  memoryRateLimitStore,
  parseRateLimitHeaders,
  rateLimitHeaders,
  slidingWindow,
} from '../src/index.ts';

const { now } = fakeClock(Date.UTC(2026, 0, 1) + 12_345);
const limiter = createRateLimiter({
  store: memoryRateLimitStore({ now }),
  policies: {
    free: [
      fixedWindow({ limit: 60, windowSeconds: 60 }),
      slidingWindow({ limit: 1000, windowSeconds: 3600 }),
    ],
    calls: [concurrency({ limit: 3 }), fixedWindow({ limit: 9, windowSeconds: 10 })],
  },
});
const fieldsOf = (
  decision: Decision,
  style: 'legacy' | 'ietf' | 'both' = 'both',
): Record<string, string> => Object.fromEntries(rateLimitHeaders(decision, { style, now }));

describe('rateLimitHeaders', () => {
  test('writes both styles', () => {
    expect(fieldsOf(limiter.checkSync('a', { policy: 'free', cost: 10 }))).toEqual({
      'x-ratelimit-limit': '60',
      'x-ratelimit-remaining': '50',
      'x-ratelimit-reset': String(Date.UTC(2026, 0, 1, 0, 1) / 1000),
      'ratelimit-policy': '"free-60s";q=60;w=60, "free-3600s";q=1000;w=3600',
      ratelimit: '"free-60s";r=50;t=48, "free-3600s";r=990;t=7188',
    });
  });

  test('tells who is refused when to come back, never too early, at the same moment everywhere', () => {
    limiter.checkSync('b', { policy: 'free', cost: 60 });
    const refused = limiter.checkSync('b', { policy: 'free' });
    expect(refused.retryAfterMs).toBe(47_655);
    expect(fieldsOf(refused)).toMatchObject({
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': String(Date.UTC(2026, 0, 1, 0, 1) / 1000),
      ratelimit: '"free-60s";r=0;t=48, "free-3600s";r=940;t=7188',
      'retry-after': '48',
    });
  });

  test('tells who is paused as a whole to come back when the pause ends, everywhere', async () => {
    limiter.checkSync('h', { policy: 'free', cost: 60 });
    await limiter.restrict('h', { policy: 'free', remaining: 0, durationMs: 100_001 });
    await limiter.restrict('i', { policy: 'free', remaining: 0, durationMs: 4001 });
    expect(fieldsOf(limiter.checkSync('h', { policy: 'free' }))).toMatchObject({
      ratelimit: '"free-60s";r=0;t=101, "free-3600s";r=0;t=101',
      'retry-after': '101',
    });
    expect(fieldsOf(limiter.checkSync('i', { policy: 'free' }))).toMatchObject({
      ratelimit: '"free-60s";r=0;t=5, "free-3600s";r=0;t=5',
      'retry-after': '5',
    });
  });

  test('does not tell who can never be granted to come back', () => {
    expect(fieldsOf(limiter.checkSync('c', { policy: 'free', cost: 61 }))).not.toHaveProperty(
      'retry-after',
    );
  });

  test('writes one style when asked to', () => {
    const decision = limiter.checkSync('d', { policy: 'free' });
    expect(Object.keys(fieldsOf(decision, 'legacy'))).toEqual([
      'x-ratelimit-limit',
      'x-ratelimit-remaining',
      'x-ratelimit-reset',
    ]);
    expect(Object.keys(fieldsOf(decision, 'ietf'))).toEqual(['ratelimit-policy', 'ratelimit']);
    expect(() => rateLimitHeaders(decision, { draft: 11 as 10 })).toThrow(/^draft: /);
  });

  test('are structured fields', () => {
    const fields = fieldsOf(limiter.checkSync('e', { policy: 'calls' }));
    expect(parseList(fields['ratelimit-policy'] as string)).toEqual([
      [
        'calls-concurrency',
        new Map<string, BareItem>([
          ['q', 3],
          ['qu', 'concurrent-requests'],
        ]),
      ],
      [
        'calls-10s',
        new Map<string, BareItem>([
          ['q', 9],
          ['w', 10],
        ]),
      ],
    ]);
    expect(parseList(fields['ratelimit'] as string)).toEqual([
      // No time gives a slot back, but the end of a response.
      ['calls-concurrency', new Map([['r', 2]])],
      [
        'calls-10s',
        new Map([
          ['r', 8],
          ['t', 8],
        ]),
      ],
    ]);
  });

  test('name no slots where one number is all there is, except to who was refused one', () => {
    const legacy = (): Record<string, string> =>
      fieldsOf(limiter.checkSync('j', { policy: 'calls' }), 'legacy');
    expect([legacy(), legacy(), legacy()]).toMatchObject([
      { 'x-ratelimit-limit': '9', 'x-ratelimit-remaining': '8' },
      { 'x-ratelimit-limit': '9', 'x-ratelimit-remaining': '7' },
      { 'x-ratelimit-limit': '9', 'x-ratelimit-remaining': '6' },
    ]);
    expect(fieldsOf(limiter.checkSync('j', { policy: 'calls' }))).toMatchObject({
      'x-ratelimit-limit': '3',
      'x-ratelimit-remaining': '0',
      ratelimit: '"calls-concurrency";r=0;t=60, "calls-10s";r=6;t=8',
      'retry-after': '60',
    });
    expect(fieldsOf(limiter.checkSync('k', { policy: 'calls', cost: 9 }))).toMatchObject({
      ratelimit: '"calls-concurrency";r=2, "calls-10s";r=0;t=8',
    });
    expect(fieldsOf(limiter.checkSync('k', { policy: 'calls' }))).toMatchObject({
      ratelimit: '"calls-concurrency";r=2, "calls-10s";r=0;t=8',
      'retry-after': '8',
    });
  });

  test('are read by ratelimit-header-parser', () => {
    const fields = fieldsOf(limiter.checkSync('f', { policy: 'free', cost: 7 }), 'legacy');
    expect(parseRateLimit(fields)).toMatchObject({
      limit: 60,
      remaining: 53,
      used: 7,
      reset: new Date(Date.UTC(2026, 0, 1, 0, 1)),
    });
  });
});

describe('parseRateLimitHeaders', () => {
  test('reads what rateLimitHeaders writes', () => {
    const decision = limiter.checkSync('g', { policy: 'free', cost: 3 });
    const read = parseRateLimitHeaders(fieldsOf(decision), now());
    expect(read.limits).toEqual([
      { name: 'free-60s', limit: 60, remaining: 57, resetMs: 48_000 },
      { name: 'free-3600s', limit: 1000, remaining: 997, resetMs: 7_188_000 },
    ]);
    expect(parseRateLimitHeaders(fieldsOf(decision, 'legacy'), now()).limits).toEqual([
      { limit: 60, remaining: 57, resetMs: 47_655 },
    ]);
  });

  test.each([
    [{ ratelimit: 'default;r=5;t=7' }, [{ name: 'default', remaining: 5, resetMs: 7000 }]],
    [
      { RateLimit: 'limit=100, remaining=50, reset=30' },
      [{ limit: 100, remaining: 50, resetMs: 30_000 }],
    ],
    [
      { 'RateLimit-Limit': '10, 10;w=1', 'RateLimit-Remaining': '9', 'RateLimit-Reset': '1' },
      [{ limit: 10, remaining: 9, resetMs: 1000 }],
    ],
    [
      { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': String(Math.floor(now() / 1000) + 5) },
      [{ remaining: 0, resetMs: 4655 }],
    ],
    [
      { 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': String(now() + 5000) },
      [{ remaining: 0, resetMs: 5000 }],
    ],
    [{ 'X-Rate-Limit-Remaining': '3', 'X-Rate-Limit-Limit': '15' }, [{ limit: 15, remaining: 3 }]],
    [
      {
        ratelimit: '"a";r=0;t=5, "b";r=7',
        'ratelimit-policy': '"a";q=3;qu="concurrent-requests", "b";q=9;qu=request',
      },
      [
        { name: 'a', limit: 3, unit: 'concurrent-requests', remaining: 0, resetMs: 5000 },
        { name: 'b', limit: 9, unit: 'request', remaining: 7 },
      ],
    ],
    // One policy after the other.
    [
      {
        'X-RateLimit-Limit': '1, 15000',
        'X-RateLimit-Remaining': '1, 0',
        'X-RateLimit-Reset': '1, 1419704',
      },
      [
        { limit: 1, remaining: 1, resetMs: 1000 },
        { limit: 15_000, remaining: 0, resetMs: 1_419_704_000 },
      ],
    ],
    // A proxy's line and the server's.
    [
      { 'x-ratelimit-remaining': ['7', '0'], 'x-ratelimit-reset': '9' },
      [
        { remaining: 7, resetMs: 9000 },
        { remaining: 0, resetMs: 9000 },
      ],
    ],
    [{ 'x-ratelimit-remaining': '5, many' }, []],
    [{ 'x-ratelimit-remaining': '-1', 'x-ratelimit-reset': '-5' }, []],
    [{ 'x-ratelimit-remaining': '1e3' }, []],
    [
      { 'x-ratelimit-remaining': '98.0', 'x-ratelimit-reset': '1.5' },
      [{ remaining: 98, resetMs: 1500 }],
    ],
    // Long ago.
    [
      { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '1500000000' },
      [{ remaining: 0, resetMs: 0 }],
    ],
    [{ 'x-ratelimit-remaining': '9'.repeat(400) }, []],
    [
      { ratelimit: '"a";r=0;t=999999999999999' },
      [{ name: 'a', remaining: 0, resetMs: 999_999_999_999_999_000 }],
    ],
    [{ ratelimit: '"a";r=0;t=9999999999999999' }, []],
    [
      { ratelimit: '"a";r=5;t=1.5, "b";r=?1, "c";r="0", ("d" "e");r=0' },
      [{ name: 'a', remaining: 5 }],
    ],
    [{ ratelimit: '"a";r=-1;t=5' }, []],
    [{ ratelimit: '"a";r=1.5' }, []],
    [{ ratelimit: '"unterminated;r=1' }, []],
    [{ 'x-ratelimit-remaining': 'many' }, []],
    [{}, []],
  ])('%j', (fields, limits) => {
    expect(parseRateLimitHeaders(fields, now()).limits).toEqual(limits);
  });

  test('reads Retry-After in both forms, from any kind of headers', () => {
    expect(parseRateLimitHeaders(new Headers({ 'Retry-After': '7' }), now()).retryAfterMs).toBe(
      7000,
    );
    // Those that `fetch` of undici answers with are not of the global class.
    const ofUndici = new UndiciHeaders({ 'Retry-After': '7', 'X-RateLimit-Remaining': '3' });
    expect(parseRateLimitHeaders(ofUndici, now())).toEqual({
      limits: [{ remaining: 3 }],
      retryAfterMs: 7000,
    });
    const date = new Date(now() + 8000).toUTCString();
    const lookup = (name: string): string | undefined =>
      name === 'retry-after' ? date : undefined;
    expect(parseRateLimitHeaders(lookup, now()).retryAfterMs).toBe(8000 - (now() % 1000));
    expect(parseRateLimitHeaders({ 'retry-after': 'soon' }, now())).toEqual({ limits: [] });
  });

  test('never throws, whatever a server sends', () => {
    const names = [
      'ratelimit',
      'ratelimit-policy',
      'x-ratelimit-remaining',
      'x-ratelimit-reset',
      'x-ratelimit-limit',
      'retry-after',
    ];
    const piece = fc.oneof(
      fc.stringMatching(/^\d{0,30}$/),
      fc.constantFrom(
        ...'-+.,;=?:" ()@eE'.split(''),
        '"a"',
        'r=',
        't=',
        'q=',
        'limit=',
        'remaining=',
        'reset=',
      ),
      fc.constantFrom(
        'NaN',
        'Infinity',
        '1e999',
        '0x10',
        'Wed, 21 Oct 2099 07:28:00 GMT',
        '\u0000',
      ),
    );
    const value = fc.oneof(
      fc.string(),
      fc.array(piece, { maxLength: 12 }).map((all) => all.join('')),
    );
    const line = fc.oneof(value, fc.array(value, { maxLength: 3 }));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...names), line), (fields) => {
        const { limits, retryAfterMs = 0 } = parseRateLimitHeaders(fields);
        const numbers = limits.flatMap(({ limit = 0, remaining, resetMs = 0 }) => [
          limit,
          remaining,
          resetMs,
        ]);
        for (const number of [...numbers, retryAfterMs]) {
          expect(Number.isFinite(number)).toBe(true);
          expect(number).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
