import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type ClientOptions, createClient } from '../src/index.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';

function listen(...names: string[]): { name: string; event: Record<string, unknown> }[] {
  const seen: { name: string; event: Record<string, unknown> }[] = [];
  for (const name of names) {
    const listener = (event: unknown): void =>
      void seen.push({ name, event: event as Record<string, unknown> });
    subscribe(`countersign:client:${name}`, listener);
    onTestFinished(() => void unsubscribe(`countersign:client:${name}`, listener));
  }
  return seen;
}

function setUp(replies: readonly Reply[], options: Partial<ClientOptions> = {}) {
  const dispatcher = new FakeDispatcher(
    (index) => replies[Math.min(index, replies.length - 1)] ?? {},
  );
  const client = createClient({
    origin: 'https://api.example.com',
    egress: dispatcher,
    retry: { baseMs: 1, capMs: 1, jitter: 'none' },
    ...options,
  });
  return { client, dispatcher };
}

describe('what is reported', () => {
  test('call, attempts and retries, tied together, without query and without secrets', async () => {
    const seen = listen('call', 'attempt', 'retry');
    const { client } = setUp([
      { errorCode: 'ECONNRESET' },
      { status: 503, headers: { 'retry-after': '0' } },
      { status: 201 },
    ]);
    const { requestId, idempotencyKey } = await client.post('/payments?token=secret', {
      json: { pin: 'secret' },
      headers: { authorization: 'secret' },
    });
    const identity = {
      requestId,
      idempotencyKey,
      method: 'POST',
      origin: 'https://api.example.com',
      path: '/payments',
    };
    const durationMs = expect.any(Number) as number;
    expect(seen).toEqual([
      { name: 'attempt', event: { ...identity, attempt: 1, failure: 'ECONNRESET', durationMs } },
      { name: 'retry', event: { ...identity, attempt: 1, waitMs: 1, budgetBalance: 9 } },
      { name: 'attempt', event: { ...identity, attempt: 2, status: 503, durationMs } },
      {
        name: 'retry',
        event: { ...identity, attempt: 2, waitMs: 1, retryAfterMs: 0, budgetBalance: 8 },
      },
      { name: 'attempt', event: { ...identity, attempt: 3, status: 201, durationMs } },
      { name: 'call', event: { ...identity, attempts: 3, status: 201, durationMs } },
    ]);
    expect(JSON.stringify(seen)).not.toContain('secret');
  });

  test('a failed call with its code, and a budget that is empty', async () => {
    const seen = listen('call', 'budget');
    const { client } = setUp([{ status: 503 }], { budget: { ratio: 0, minPerSecond: 0 } });
    await client.get('/x').catch(() => {});
    expect(seen).toMatchObject([
      { name: 'budget', event: { origin: 'https://api.example.com' } },
      {
        name: 'call',
        event: {
          attempts: 1,
          status: 503,
          error: 'ERR_CLIENT_STATUS',
          stopped: 'budget_exhausted',
        },
      },
    ]);
    expect(seen[0]?.event['requestId']).toBe(seen[1]?.event['requestId']);
  });
});

describe('a call that was not sent', () => {
  const journal = {
    begin: () => Promise.reject(new Error('the disk is full')),
    settle: async () => {},
    claim: async () => undefined,
    close: async () => {},
  };
  const ended = { name: 'call', event: { method: 'POST', path: '/x', attempts: 0 } };

  test('because the journal failed is reported, with its key', async () => {
    const seen = listen('call', 'attempt');
    const { client } = setUp([{}], { journal });
    const error: unknown = await client.post('/x').catch((reason: unknown) => reason);
    const { idempotencyKey } = error as { idempotencyKey: string };
    expect(idempotencyKey).toMatch(/^[0-9a-f-]{36}$/);
    expect(seen).toMatchObject([
      { ...ended, event: { ...ended.event, error: 'ERR_CLIENT_JOURNAL', idempotencyKey } },
    ]);
  });

  test('because its caller gave up, or its time was over, while it was written down is reported', async () => {
    const seen = listen('call', 'attempt');
    const begin = (): Promise<void> => new Promise(() => {});
    const { client } = setUp([{}], { journal: { ...journal, begin } });
    await client.post('/x', { signal: AbortSignal.abort() }).catch(() => {});
    await client.post('/x', { deadlineMs: 1 }).catch(() => {});
    expect(seen).toMatchObject([
      { ...ended, event: { ...ended.event, error: 'ERR_CLIENT_ABORTED' } },
      { ...ended, event: { ...ended.event, error: 'ERR_CLIENT_DEADLINE_EXCEEDED' } },
    ]);
  });

  test('because the client was closed is reported, and not written down', async () => {
    const seen = listen('call', 'attempt');
    const begin = vi.fn(async () => {});
    const { client } = setUp([{}], { journal: { ...journal, begin } });
    await client.close();
    await client.post('/x').catch(() => {});
    expect(seen).toMatchObject([
      { ...ended, event: { ...ended.event, error: 'ERR_CLIENT_CLOSED' } },
    ]);
    expect(begin).not.toHaveBeenCalled();
  });
});

test('closing waits for a call that is being written down', async () => {
  let written = (): void => {};
  const begin = (): Promise<void> =>
    new Promise((resolve) => {
      written = resolve;
    });
  const settle = vi.fn(async () => {});
  const journal = { begin, settle, claim: async () => undefined, close: async () => {} };
  const { client } = setUp([{ status: 201 }], { journal });
  const call = client.post('/x');
  const closed = client.close();
  written();
  expect(await call).toMatchObject({ status: 201 });
  await closed;
  expect(settle).toHaveBeenCalledTimes(1);
});

describe('what ties services together', () => {
  test('a traceparent and a request id are passed on when they are given', async () => {
    const { client, dispatcher } = setUp([{}]);
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00';
    const headers = { traceparent, 'X-Request-ID': 'mine' };
    const { requestId } = await client.get('/', { headers });
    expect(requestId).toBe('mine');
    expect(dispatcher.requests[0]?.headers).toMatchObject({ traceparent, 'x-request-id': 'mine' });
  });

  test('and made otherwise, new for every call and the same for its attempts', async () => {
    const { client, dispatcher } = setUp([{ status: 503 }, {}]);
    await client.get('/');
    await client.get('/');
    const traces = dispatcher.requests.map(({ headers }) => headers['traceparent'] ?? '');
    for (const trace of traces) {
      expect(trace).toMatch(/^00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01$/);
    }
    expect(traces[0]).toBe(traces[1]);
    expect(traces[2]).not.toBe(traces[0]);
  });

  test('unless it is switched off', async () => {
    const { client, dispatcher } = setUp([{}], { traceparent: false, deadlineHeader: false });
    await client.get('/');
    expect(Object.keys(dispatcher.requests[0]?.headers ?? {}).sort()).toEqual([
      'accept',
      'accept-encoding',
      'x-request-id',
    ]);
  });

  test('the deadline header may have another name', async () => {
    const { client, dispatcher } = setUp([{}], { deadlineHeader: 'X-Timeout' });
    await client.get('/', { deadlineMs: 5000 });
    const left = Number(dispatcher.requests[0]?.headers['x-timeout']);
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(5000);
  });
});
