import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type BreakerOptions, circuitBreaker, createClient } from '../src/index.ts';
import { FakeDispatcher } from './fake-dispatcher.ts';

function setUp(options: BreakerOptions = {}) {
  const clock = { ms: 1_000_000 };
  const changes: string[] = [];
  const breaker = circuitBreaker(
    { minimumAttempts: 4, windowMs: 10_000, openMs: 5000, ...options, now: () => clock.ms },
    (state) => changes.push(state),
  );
  const attempt = (succeeded: boolean | undefined): boolean => {
    const ticket = breaker.tryEnter();
    breaker.leave(ticket, succeeded);
    return ticket !== 0;
  };
  return { clock, breaker, changes, attempt };
}

describe('circuitBreaker', () => {
  test('opens at the ratio, but not before the minimum volume', () => {
    const { breaker, attempt } = setUp();
    for (const succeeded of [false, false, false]) attempt(succeeded);
    expect(breaker.state).toBe('closed');
    attempt(true);
    expect(breaker.state).toBe('closed');
    attempt(false);
    expect(breaker.state).toBe('open');
    expect(attempt(true)).toBe(false);
    expect(breaker.retryInMs).toBe(5000);
  });

  test('a success alone does not open it, whatever failed before', () => {
    const { breaker, attempt } = setUp({ failureRatio: 0.75 });
    for (const succeeded of [false, false, false, true]) attempt(succeeded);
    expect(breaker.state).toBe('closed');
    attempt(false);
    expect(breaker.state).toBe('open');
  });

  test('lets one probe through when it has been open long enough, and closes on its success', () => {
    const { clock, breaker, attempt, changes } = setUp();
    for (let i = 0; i < 4; i += 1) attempt(false);
    clock.ms += 4999;
    expect(breaker.tryEnter()).toBe(0);
    clock.ms += 1;
    const ticket = breaker.tryEnter();
    expect(breaker.state).toBe('half_open');
    expect(breaker.tryEnter()).toBe(0);
    breaker.leave(ticket, true);
    expect(changes).toEqual(['open', 'half_open', 'closed']);
    // What failed before it opened is forgotten.
    attempt(false);
    expect(breaker.state).toBe('closed');
  });

  test('opens again when the probe fails', () => {
    const { clock, breaker, attempt } = setUp();
    for (let i = 0; i < 4; i += 1) attempt(false);
    clock.ms += 5000;
    expect(attempt(false)).toBe(true);
    expect([breaker.state, breaker.retryInMs]).toEqual(['open', 5000]);
  });

  test('a probe that says nothing makes room for the next', () => {
    const { clock, breaker, attempt } = setUp();
    for (let i = 0; i < 4; i += 1) attempt(false);
    clock.ms += 5000;
    expect(attempt(undefined)).toBe(true);
    expect(breaker.state).toBe('half_open');
    expect(attempt(true)).toBe(true);
    expect(breaker.state).toBe('closed');
  });

  test('with several probes it closes after as many successes', () => {
    const { clock, breaker, attempt } = setUp({ probes: 3 });
    for (let i = 0; i < 4; i += 1) attempt(false);
    clock.ms += 5000;
    const tickets = Array.from({ length: 4 }, () => breaker.tryEnter());
    expect(tickets.map((ticket) => ticket !== 0)).toEqual([true, true, true, false]);
    breaker.leave(tickets[0] ?? 0, true);
    breaker.leave(tickets[1] ?? 0, true);
    expect(breaker.state).toBe('half_open');
    breaker.leave(tickets[2] ?? 0, true);
    expect(breaker.state).toBe('closed');
  });

  test('answers to what was sent before it opened change nothing', () => {
    const { clock, breaker, attempt } = setUp();
    const [early, earlier] = [breaker.tryEnter(), breaker.tryEnter()];
    for (let i = 0; i < 4; i += 1) attempt(false);
    breaker.leave(early, true);
    expect(breaker.state).toBe('open');
    clock.ms += 5000;
    const probe = breaker.tryEnter();
    breaker.leave(earlier, true);
    expect(breaker.state).toBe('half_open');
    expect(breaker.tryEnter()).toBe(0);
    breaker.leave(probe, true);
    expect(breaker.state).toBe('closed');
  });

  test('failures are forgotten after the window', () => {
    const { clock, breaker, attempt } = setUp();
    for (let i = 0; i < 3; i += 1) attempt(false);
    clock.ms += 10_000;
    attempt(false);
    expect(breaker.state).toBe('closed');
  });

  test('never has more probes under way than it may, and lets nothing through before its time', () => {
    const step = fc.oneof(
      fc.constantFrom('enter' as const, 'good' as const, 'bad' as const, 'nothing' as const),
      fc.integer({ min: 1, max: 6000 }),
    );
    const steps = fc.array(step, { maxLength: 200 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 3 }), (script, probes) => {
        const { clock, breaker } = setUp({ probes });
        /** Tickets that are out, and whether each was given while half-open. */
        let out: { readonly ticket: number; readonly probe: boolean }[] = [];
        let openedAt = -Infinity;
        for (const what of script) {
          const before = breaker.state;
          if (typeof what === 'number') clock.ms += what;
          else if (what === 'enter') {
            const ticket = breaker.tryEnter();
            if (before === 'closed') expect(ticket).not.toBe(0);
            if (before === 'open') expect(ticket !== 0).toBe(clock.ms - openedAt >= 5000);
            if (ticket !== 0) out.push({ ticket, probe: breaker.state === 'half_open' });
            const latest = Math.max(...out.map((each) => each.ticket));
            const probing = out.filter((each) => each.probe && each.ticket === latest);
            expect(probing.length).toBeLessThanOrEqual(probes);
          } else {
            const [first, ...rest] = out;
            if (!first) continue;
            out = rest;
            breaker.leave(first.ticket, what === 'nothing' ? undefined : what === 'good');
          }
          if (before !== 'open' && breaker.state === 'open') openedAt = clock.ms;
        }
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    [{ failureRatio: 0 }, /failureRatio/],
    [{ failureRatio: 1.1 }, /failureRatio/],
    [{ minimumAttempts: 0 }, /minimumAttempts/],
    [{ windowMs: 10 }, /windowMs/],
    [{ openMs: Number.NaN }, /openMs/],
    [{ probes: 1.5 }, /probes/],
  ])('refuses %o at construction', (options, message) => {
    expect(() => circuitBreaker(options)).toThrow(message);
    expect(() => createClient({ origin: 'https://a.example', breaker: options })).toThrow(message);
  });
});

describe('the breaker of a client', () => {
  test('fails at once while it is open, says when to come back, and is reported', async () => {
    const events: unknown[] = [];
    const listen = (event: unknown): void => void events.push(event);
    subscribe('countersign:client:breaker', listen);
    const clock = { ms: 0 };
    let up = false;
    const dispatcher = new FakeDispatcher(() => ({ status: up ? 200 : 503 }));
    const client = createClient({
      origin: 'https://api.example.com',
      egress: dispatcher,
      retry: false,
      breaker: { minimumAttempts: 3, openMs: 5000, now: () => clock.ms },
    });
    for (let i = 0; i < 3; i += 1) {
      await expect(client.get('/')).rejects.toMatchObject({ status: 503 });
    }
    await expect(client.get('/')).rejects.toMatchObject({
      code: 'ERR_CLIENT_BREAKER_OPEN',
      attempts: 0,
      retryAfterMs: 5000,
      stopped: 'breaker_open',
    });
    expect(dispatcher.requests.length).toBe(3);
    clock.ms = 5000;
    up = true;
    await client.get('/');
    await client.get('/');
    unsubscribe('countersign:client:breaker', listen);
    expect(events).toEqual(
      ['open', 'half_open', 'closed'].map((state) => ({
        origin: 'https://api.example.com',
        state,
      })),
    );
  });

  test.each([
    [{ status: 500 }, 'open'],
    [{ status: 429 }, 'closed'],
    [{ status: 404 }, 'closed'],
    [{ status: 501 }, 'closed'],
    [{ errorCode: 'ECONNREFUSED' }, 'open'],
    [{ errorCode: 'ERR_OAUTH_X' }, 'closed'],
  ])('%o leaves it %s', async (reply, expected) => {
    const dispatcher = new FakeDispatcher(() => reply);
    const client = createClient({
      origin: 'https://api.example.com',
      egress: dispatcher,
      retry: false,
      breaker: { minimumAttempts: 2 },
    });
    for (let i = 0; i < 2; i += 1) await client.get('/').catch(() => {});
    const error: unknown = await client.get('/').catch((reason: unknown) => reason);
    expect((error as { code?: string }).code === 'ERR_CLIENT_BREAKER_OPEN').toBe(
      expected === 'open',
    );
  });

  test('says why a retry was not made', async () => {
    const client = createClient({
      origin: 'https://api.example.com',
      egress: new FakeDispatcher(() => ({ status: 503 })),
      breaker: { minimumAttempts: 1 },
    });
    await expect(client.get('/')).rejects.toMatchObject({
      status: 503,
      attempts: 1,
      stopped: 'breaker_open',
    });
  });
});
