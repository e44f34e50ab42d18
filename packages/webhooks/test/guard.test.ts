import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { GuardRequest, Outcome, Pass, Verdict } from '@countersign/guard';
import { describe, expect, it, vi } from 'vitest';
import { receiverGuard, webhookGuard } from '../src/guard.ts';
import {
  createReceiver,
  createSigner,
  createVerifier,
  generateSecret,
  memoryReplayStore,
  type SignedHeaders,
  type Webhook,
} from '../src/index.ts';

const secret = generateSecret();
const signer = createSigner({ secrets: secret });
const verifier = createVerifier({ secrets: secret });
const body = Buffer.from('{"amount":42}');

function requestOf(
  headers: SignedHeaders & { 'content-length'?: string },
  rawBody: () => Promise<Uint8Array> = async () => body,
): GuardRequest {
  const all = (name: string) => {
    const value = (headers as Record<string, string | undefined>)[name];
    return value === undefined ? [] : [value];
  };
  return {
    method: 'POST',
    path: '/hook',
    query: new URLSearchParams(),
    headers: { get: (name) => all(name)[0], all },
    remoteAddress: '192.0.2.1',
    secure: true,
    signal: new AbortController().signal,
    rawBody,
  };
}

const signed = (id: string) => requestOf(signer.sign({ id, body }));
const ended = (outcome: Partial<Outcome>): Outcome => ({
  status: 200,
  headers: [],
  aborted: false,
  ...outcome,
});

function passed<T>(verdict: Verdict<T>): Pass<T> {
  if (!verdict.pass) throw new Error(`refused with ${verdict.status}`);
  return verdict;
}

describe('webhookGuard', () => {
  const guarded = () => webhookGuard<{ amount: number }>({ verifier, store: memoryReplayStore() });

  it('passes what it verified on as its context', async () => {
    const verdict = passed<Webhook<{ amount: number }>>(await guarded()(signed('a'), {}));
    expect(verdict.context).toMatchObject({ id: 'a', payload: { amount: 42 }, keyIndex: 0 });
  });

  it.each([
    ['a 2xx', { status: 204 }, 200],
    ['an error', { status: 500 }, undefined],
    ['an abort', { status: 0, aborted: true }, undefined],
    ['a refusal of a later guard', { status: 200, refused: true as const }, undefined],
  ])('after %s of the handler, a repetition gets %j %s', async (_, outcome, repeated) => {
    const guard = guarded();
    await passed(await guard(signed('a'), {})).settle?.(ended(outcome));
    const again = await guard(signed('a'), {});
    expect(again.pass ? undefined : again.status).toBe(repeated);
  });

  it('is not built with a completeOn that is no function', () => {
    const options = { verifier, store: memoryReplayStore(), completeOn: 200 as never };
    expect(() => webhookGuard(options)).toThrow(/completeOn/);
  });

  it('answers 409 while the first delivery is in the handler', async () => {
    const guard = guarded();
    await guard(signed('a'), {});
    expect(await guard(signed('a'), {})).toMatchObject({ pass: false, status: 409 });
  });

  it('lets the next delivery in when the handler does not answer, a lease after its time is over', async () => {
    vi.useFakeTimers();
    const store = memoryReplayStore();
    const options = { verifier, store, leaseMs: 60_000, handleTimeoutMs: 100_000 };
    const guard = webhookGuard(options);
    const statuses: (number | 'passed')[] = [];
    const receive = async (): Promise<Verdict<unknown>> => {
      const verdict = await guard(signed('a'), {});
      statuses.push(verdict.pass ? 'passed' : verdict.status);
      return verdict;
    };
    const first = await receive();
    await vi.advanceTimersByTimeAsync(100_000);
    await receive();
    await vi.advanceTimersByTimeAsync(60_000);
    await receive();
    expect(statuses).toEqual(['passed', 409, 'passed']);
    // Somebody else has the id: what the first did counts no more.
    await passed(first).settle?.(ended({ status: 200 }));
    await receive();
    expect(statuses.at(-1)).toBe(409);
    vi.useRealTimers();
  });

  it('refuses by the stated length before it reads the body', async () => {
    const headers = { ...signer.sign({ id: 'a', body }), 'content-length': '2000000' };
    const request = requestOf(headers, () => Promise.reject(new Error('must not be read')));
    expect(await guarded()(request, {})).toMatchObject({ pass: false, status: 413 });
  });

  it('lets a body in of 1 MiB by its stated length, and of no byte more', async () => {
    const statusOf = async (length: number): Promise<number> => {
      const headers = { ...signer.sign({ id: 'a', body }), 'content-length': String(length) };
      const verdict = await guarded()(requestOf(headers), {});
      return verdict.pass ? 200 : verdict.status;
    };
    expect([await statusOf(1_048_576), await statusOf(1_048_577)]).toEqual([200, 413]);
  });

  it('answers 403 in problem+json to a wrong signature', async () => {
    const headers = { ...signer.sign({ id: 'a', body }), 'webhook-id': 'b' };
    expect(await guarded()(requestOf(headers), {})).toEqual({
      pass: false,
      status: 403,
      headers: [
        ['content-type', 'application/problem+json'],
        ['cache-control', 'no-store'],
      ],
      body: '{"type":"about:blank","title":"Forbidden","status":403}',
    });
  });

  it('has an audit event for what it refuses before the signature is looked at', async () => {
    const events: unknown[] = [];
    const listen = (message: unknown) => void events.push(message);
    subscribe('countersign:webhooks:received', listen);
    const failing = (code: string) => () => Promise.reject(Object.assign(new Error('x'), { code }));
    const headers = signer.sign({ id: 'a', body });
    const requests = [
      requestOf({ ...headers, 'content-length': '2000000' }),
      requestOf(headers, failing('ERR_GUARD_BODY_TOO_LARGE')),
      requestOf(headers, failing('ERR_GUARD_BODY_ABORTED')),
      requestOf(headers, failing('ERR_GUARD_BODY_CONSUMED')),
    ];
    for (const request of requests) {
      await Promise.resolve(guarded()(request, {})).catch(() => undefined);
    }
    unsubscribe('countersign:webhooks:received', listen);
    const common = { outcome: 'refused', source: 'standard-webhooks', remoteAddress: '192.0.2.1' };
    expect(events).toMatchObject([
      { ...common, status: 413, code: 'ERR_WEBHOOKS_BODY_TOO_LARGE' },
      { ...common, status: 413, code: 'ERR_GUARD_BODY_TOO_LARGE' },
      { ...common, status: 400, code: 'ERR_GUARD_BODY_ABORTED' },
      { ...common, status: 500, code: 'ERR_GUARD_BODY_CONSUMED' },
    ]);
  });

  it('leaves a body that a parser already read to the adapter: it is our own mistake', async () => {
    const consumed = Object.assign(new Error('consumed'), { code: 'ERR_GUARD_BODY_CONSUMED' });
    const request = requestOf(signer.sign({ id: 'a', body }), () => Promise.reject(consumed));
    await expect(async () => await guarded()(request, {})).rejects.toBe(consumed);
  });

  it('answers with the status of what kept the body from being read', async () => {
    const tooLarge = Object.assign(new Error('x'), { code: 'ERR_GUARD_BODY_TOO_LARGE' });
    const request = requestOf(signer.sign({ id: 'a', body }), () => Promise.reject(tooLarge));
    expect(await guarded()(request, {})).toMatchObject({ pass: false, status: 413 });
  });
});

describe('receiverGuard', () => {
  it('answers every request itself', async () => {
    const handled: string[] = [];
    const receiver = createReceiver({
      verifier,
      store: memoryReplayStore(),
      handle: ({ id }) => void handled.push(id),
    });
    const guard = receiverGuard(receiver);
    expect(await guard(signed('a'), {})).toMatchObject({ pass: false, status: 202 });
    await receiver.close();
    expect(await guard(signed('a'), {})).toMatchObject({ pass: false, status: 503 });
    expect(handled).toEqual(['a']);
  });
});
