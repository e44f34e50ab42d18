import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { GuardRequest, Outcome, Pass } from '@countersign/guard';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { requestLog } from '../src/guard.ts';
import type { RequestLogEntry } from '../src/index.ts';

const entries: RequestLogEntry[] = [];
const listen = (event: unknown): void => void entries.push(event as RequestLogEntry);

beforeEach(() => subscribe('countersign:hardening:request', listen));
afterEach(() => {
  unsubscribe('countersign:hardening:request', listen);
  entries.length = 0;
});

const request = (parts: Partial<GuardRequest> = {}): GuardRequest => ({
  method: 'GET',
  path: '/payments/7',
  route: '/payments/:id',
  query: new URLSearchParams(),
  headers: { get: () => undefined, all: () => [] },
  remoteAddress: '192.0.2.1',
  secure: true,
  signal: new AbortController().signal,
  rawBody: () => Promise.reject(new Error('the log reads no body')),
  ...parts,
});

const finished: Outcome = { status: 200, headers: [], aborted: false };

async function logged(parts: Partial<GuardRequest>, outcome: Outcome = finished): Promise<string> {
  let nowMs = 1000;
  const now = (): number => nowMs;
  const verdict = requestLog({ now })(request(parts), {}) as Pass<undefined>;
  nowMs = 1250;
  await verdict.settle?.(outcome);
  return JSON.stringify(entries.at(-1));
}

describe('requestLog', () => {
  test('tells how long it took, and by which route', async () => {
    await logged({});
    expect(entries).toEqual([
      {
        startedAtMs: 1000,
        durationMs: 250,
        method: 'GET',
        path: '/payments/7',
        route: '/payments/:id',
        query: [],
        headers: {},
        remoteAddress: '192.0.2.1',
        secure: true,
        status: 200,
        aborted: false,
        refused: false,
      },
    ]);
  });

  test('tells that the caller went away', async () => {
    await logged({}, { status: 0, headers: [], aborted: true });
    expect(entries[0]).toMatchObject({ status: 0, aborted: true });
  });

  test('writes down no secret that was sent as the name of a parameter', async () => {
    const jwt = `eyJhbGciOiJIUzI1NiJ9.${'e'.repeat(100)}.sig`;
    const query = new URLSearchParams(`sk_live_0123456789abcdef0123&${jwt}=1&page=2`);
    await logged({ query });
    expect(entries[0]?.query).toEqual([
      ['[redacted]', ''],
      ['[redacted]', '1'],
      ['page', '2'],
    ]);
  });

  test('is bounded, whatever is sent', async () => {
    const long = fc
      .tuple(fc.string(), fc.integer({ min: 1, max: 100 }))
      .map(([piece, times]) => piece.repeat(times));
    await fc.assert(
      fc.asyncProperty(
        long,
        fc.array(fc.tuple(long, long), { maxLength: 100 }),
        async (text, parameters) => {
          const query = new URLSearchParams(parameters);
          const headers = { get: () => text, all: () => [text] };
          const entry = JSON.parse(await logged({ path: `/${text}`, query, headers }));
          expect(entry.path.length).toBeLessThan(2000);
          expect(entry.query.length).toBeLessThanOrEqual(50);
          for (const [name, value] of entry.query) {
            expect(name.length).toBeLessThanOrEqual(100);
            expect(value.length).toBeLessThanOrEqual(257);
          }
          for (const value of Object.values<string>(entry.headers)) {
            expect(value.length).toBeLessThanOrEqual(257);
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});

test.each([
  { requestId: 'r1' },
  { now: 0 },
  { headers: 'accept' },
  { redact: [1] },
  { header: [] },
])('cannot be built with %j', (options) => {
  expect(() => requestLog(options as never)).toThrow(TypeError);
});
