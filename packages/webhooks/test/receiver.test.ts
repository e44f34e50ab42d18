import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { fakeClock } from '@countersign/testkit/clock';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import {
  createReceiver,
  createSigner,
  createVerifier,
  generateSecret,
  github,
  jsonField,
  memoryReplayStore,
  type Receiver,
  type ReceiverOptions,
  type ReplayStore,
  stripe,
  timestampedHmac,
  type Verifier,
} from '../src/index.ts';

const nowMs = 1_800_000_000_000;
const now = () => nowMs;
const secret = generateSecret();
const signer = createSigner({ secrets: secret, now });
const verifier = createVerifier({ secrets: secret, now });
const body = '{"type":"invoice.paid","data":{"amount":42}}';
const schema = z.object({ type: z.string(), data: z.object({ amount: z.int() }) });
type Payload = z.infer<typeof schema>;

function receiverWith(
  options: Partial<ReceiverOptions<Payload>> & { readonly store?: ReplayStore } = {},
): Receiver {
  return createReceiver<Payload>({
    verifier,
    store: memoryReplayStore({ now }),
    schema,
    ...(!options.handOver && { handle: () => undefined }),
    ...options,
  } as ReceiverOptions<Payload>);
}

const incoming = (id: string, of = body) => ({ body: of, headers: signer.sign({ id, body: of }) });

/** A promise, and the means to settle it. */
function gate(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

const failing: ReplayStore = {
  claim: () => Promise.reject(new Error('down')),
  renew: () => Promise.reject(new Error('down')),
  complete: () => Promise.reject(new Error('down')),
  release: () => Promise.reject(new Error('down')),
};

describe('createReceiver', () => {
  it('answers 202 at once and processes afterwards', async () => {
    const { promise, resolve } = gate();
    const handle = vi.fn(() => promise);
    const receipt = await receiverWith({ handle }).receive(incoming('a'));
    expect(receipt).toMatchObject({ status: 202, accepted: true });
    expect(handle).toHaveBeenCalledOnce();
    expect(handle.mock.calls[0]).toMatchObject([
      { id: 'a', payload: { data: { amount: 42 } } },
      {},
    ]);
    resolve();
    await receipt.done;
  });

  it('processes an id once, and answers 200 to its duplicates', async () => {
    const handle = vi.fn();
    const receiver = receiverWith({ handle });
    await (await receiver.receive(incoming('a'))).done;
    expect(await receiver.receive(incoming('a'))).toMatchObject({ status: 200, accepted: false });
    expect(handle).toHaveBeenCalledOnce();
  });

  it.each([
    ['conflict', 409],
    ['accept', 200],
  ] as const)(
    'answers a duplicate during processing as told: %s, %d',
    async (whileProcessing, status) => {
      const { promise, resolve } = gate();
      const receiver = receiverWith({ handle: () => promise, whileProcessing });
      const first = await receiver.receive(incoming('a'));
      const second = await receiver.receive(incoming('a'));
      expect(second.status).toBe(status);
      if (status === 409) expect(Object.fromEntries(second.headers)['retry-after']).toBe('60');
      resolve();
      await first.done;
    },
  );

  it('processes the next delivery when processing failed', async () => {
    const onError = vi.fn();
    const handle = vi.fn().mockRejectedValueOnce(new Error('no')).mockResolvedValue(undefined);
    const receiver = receiverWith({ handle, onError });
    await (await receiver.receive(incoming('a'))).done;
    expect(onError).toHaveBeenCalledOnce();
    const again = await receiver.receive(incoming('a'));
    expect(again.status).toBe(202);
    await again.done;
    expect(handle).toHaveBeenCalledTimes(2);
    expect((await receiver.receive(incoming('a'))).status).toBe(200);
  });

  it('answers after processing when told to, and 503 when it failed', async () => {
    const handle = vi.fn().mockRejectedValueOnce(new Error('no')).mockResolvedValue(undefined);
    const receiver = receiverWith({ handle, acknowledge: 'last' });
    expect((await receiver.receive(incoming('a'))).status).toBe(503);
    expect((await receiver.receive(incoming('a'))).status).toBe(200);
  });

  it('answers only when the webhook was handed over', async () => {
    const handOver = vi.fn().mockRejectedValueOnce(new Error('no')).mockResolvedValue(undefined);
    const receiver = receiverWith({ handOver });
    expect((await receiver.receive(incoming('a'))).status).toBe(503);
    expect((await receiver.receive(incoming('a'))).status).toBe(202);
    expect((await receiver.receive(incoming('a'))).status).toBe(200);
    expect(handOver).toHaveBeenCalledTimes(2);
  });

  it.each([
    ['a wrong signature', { ...incoming('a'), body: `${body} ` }, 403],
    ['no headers', { body, headers: {} }, 403],
    ['something that is not JSON', incoming('a', 'hello'), 400],
    [
      'bytes that are not UTF-8',
      {
        body: Uint8Array.of(0x22, 0xff, 0x22),
        headers: signer.sign({ id: 'a', body: Uint8Array.of(0x22, 0xff, 0x22) }),
      },
      400,
    ],
    ['a payload of another form', incoming('a', '{"type":"x"}'), 400],
    ['too large a body', incoming('a', `"${'x'.repeat(1000)}"`), 413],
  ])('refuses %s without a word of explanation', async (_, delivery, status) => {
    const handle = vi.fn();
    const receiver = receiverWith({ handle, maxBodyBytes: 1000 });
    const receipt = await receiver.receive(delivery);
    expect(receipt.status).toBe(status);
    expect(Object.keys(JSON.parse(receipt.body ?? '') as object)).toEqual([
      'type',
      'title',
      'status',
    ]);
    expect(handle).not.toHaveBeenCalled();
  });

  it('gives the id back when the payload was refused', async () => {
    const store = memoryReplayStore({ now });
    await receiverWith({ store }).receive(incoming('a', '{}'));
    expect((await receiverWith({ store }).receive(incoming('a'))).status).toBe(202);
  });

  it('fails closed when the store is down, open only when told to', async () => {
    const handle = vi.fn();
    const closed = await receiverWith({ store: failing, handle }).receive(incoming('a'));
    expect(closed.status).toBe(503);
    expect(handle).not.toHaveBeenCalled();
    const open = await receiverWith({ store: failing, handle, onStoreError: 'open' }).receive(
      incoming('a'),
    );
    expect(open.status).toBe(202);
    await open.done;
    expect(handle).toHaveBeenCalledOnce();
  });

  it.each([undefined, null, 'a word', new Error('no secrets')])(
    'answers 503 when a provider of secrets rejects with %s',
    async (reason) => {
      const of = createVerifier({ secrets: () => Promise.reject(reason) });
      const receiver = receiverWith({ verifier: of });
      expect(await receiver.receive(incoming('a'))).toMatchObject({ status: 503, accepted: false });
    },
  );

  it('keeps ids of different sources apart in one store', async () => {
    const store = memoryReplayStore({ now });
    expect((await receiverWith({ store, source: 'a' }).receive(incoming('x'))).status).toBe(202);
    expect((await receiverWith({ store, source: 'b' }).receive(incoming('x'))).status).toBe(202);
    expect((await receiverWith({ store, source: 'a' }).receive(incoming('x'))).status).toBe(200);
  });

  it('keeps the ids of two senders apart, whatever their names hold', async () => {
    const store = memoryReplayStore({ now });
    expect((await receiverWith({ store, source: 'a' }).receive(incoming('b:x'))).status).toBe(202);
    expect((await receiverWith({ store, source: 'a:b' }).receive(incoming('x'))).status).toBe(202);
  });

  it('gives a claim back although its listener throws', async () => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
    const receiver = receiverWith({
      acknowledge: 'last',
      handle: () => {
        throw new Error('broken');
      },
      onError: () => {
        throw new Error('the listener is broken, too');
      },
    });
    expect((await receiver.receive(incoming('a'))).status).toBe(503);
    expect((await receiver.receive(incoming('a'))).status).toBe(503);
    expect(warned).toHaveBeenCalledTimes(2);
    warned.mockRestore();
  });

  it('takes no more than it can process at the same time', async () => {
    const { promise, resolve } = gate();
    const receiver = receiverWith({ handle: () => promise, maxInFlight: 1 });
    const first = await receiver.receive(incoming('a'));
    expect((await receiver.receive(incoming('b'))).status).toBe(503);
    resolve();
    await first.done;
    expect((await receiver.receive(incoming('b'))).status).toBe(202);
  });

  it('waits for what is in process when it is closed', async () => {
    const { promise, resolve } = gate();
    const receiver = receiverWith({ handle: () => promise });
    await receiver.receive(incoming('a'));
    let closed = false;
    const closing = receiver.close().then(() => {
      closed = true;
    });
    expect((await receiver.receive(incoming('b'))).status).toBe(503);
    expect(closed).toBe(false);
    resolve();
    await closing;
  });

  it('is not built on a scheme that has no id to tell duplicates by', () => {
    const secrets = 'a secret of enough length';
    for (const scheme of [stripe(), github(), timestampedHmac()]) {
      const of = createVerifier({ secrets, scheme });
      expect(() => receiverWith({ verifier: of })).toThrow(/idFrom/);
    }
    const scheme = stripe({ idFrom: jsonField('id') });
    expect(() => receiverWith({ verifier: createVerifier({ secrets, scheme }) })).not.toThrow();
  });

  it.each([
    { leaseMs: 10 },
    { leaseMs: 1000.5 },
    { ttlMs: 86_400_000.5 },
    { ttlMs: 10 },
    { maxBodyBytes: 0 },
    { maxInFlight: 0 },
    { handleTimeoutMs: 0 },
    { handleTimeoutMs: Number.NaN },
    { handleTimeoutMs: 86_400_001 },
    { handle: undefined },
    // What decides whether something is lost or done twice is chosen by its name, and by no other word.
    { onStoreError: 'close' as 'closed' },
    { whileProcessing: '409' as 'conflict' },
    { acknowledge: 'after' as 'last' },
    { handle: 'processed' as never },
    { schema: ((value: unknown) => value) as never },
    { handOver: { add: () => undefined } as never, handle: undefined },
    { verifier: undefined as unknown as Verifier },
    { store: undefined as unknown as ReplayStore },
    { store: {} as ReplayStore, onStoreError: 'open' as const },
    { handle: () => undefined, handOver: async () => undefined },
  ])('refuses the options %j', (options) => {
    const named = new RegExp(Object.keys(options)[0] ?? '');
    const make = () => receiverWith(options as Partial<ReceiverOptions<Payload>>);
    expect(make).toThrow(TypeError);
    expect(make).toThrow(named);
  });
});

describe('what is not chosen', () => {
  it('is as documented: ids are remembered for 31 days', async () => {
    const clock = fakeClock();
    const of = createVerifier({ secrets: secret, now: clock.now });
    const store = memoryReplayStore({ now: clock.now });
    const receiver = receiverWith({ verifier: of, store });
    const status = async (): Promise<number> => {
      const headers = signer.sign({ id: 'a', body, timestampMs: clock.now() });
      const receipt = await receiver.receive({ body, headers });
      await receipt.done;
      return receipt.status;
    };
    expect(await status()).toBe(202);
    clock.advance(31 * 86_400_000 - 1);
    expect(await status()).toBe(200);
    clock.advance(1);
    expect(await status()).toBe(202);
  });

  it('is as documented: bodies may have 1 MiB', async () => {
    const statusOf = async (bytes: number): Promise<number> => {
      const text = `"${'x'.repeat(bytes - 2)}"`;
      return (await receiverWith().receive(incoming('a', text))).status;
    };
    expect([await statusOf(1_048_576), await statusOf(1_048_577)]).toEqual([400, 413]);
  });

  it('is as documented: 1,000 are processed at the same time, the next comes again in a second', async () => {
    const { promise, resolve } = gate();
    const receiver = receiverWith({ handle: () => promise });
    for (let index = 0; index < 1000; index += 1) {
      expect((await receiver.receive(incoming(`id_${index}`))).status).toBe(202);
    }
    const { status, headers } = await receiver.receive(incoming('one_more'));
    expect([status, Object.fromEntries(headers)['retry-after']]).toEqual([503, '1']);
    resolve();
    await receiver.close();
  });

  it('is as documented: a store that is down is asked again in a second', async () => {
    const { headers } = await receiverWith({ store: failing }).receive(incoming('a'));
    expect(Object.fromEntries(headers)['retry-after']).toBe('1');
  });
});

describe('a long process', () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it('keeps its claim alive, and is told when it was lost', async () => {
    vi.useFakeTimers({ now: nowMs });
    const store = memoryReplayStore();
    const { promise, resolve } = gate();
    let lost: unknown;
    const receiver = receiverWith({
      store,
      leaseMs: 9000,
      handle: (_, signal) => {
        signal.addEventListener('abort', () => {
          lost = signal.reason;
        });
        return promise;
      },
    });
    const receipt = await receiver.receive(incoming('a'));
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await store.claim('standard-webhooks:a', 1000)).toMatchObject({ status: 'processing' });
    expect(lost).toBeUndefined();
    // A suspended process does not renew: the clock jumps, and somebody else takes the id.
    vi.setSystemTime(Date.now() + 60_000);
    expect(await store.claim('standard-webhooks:a', 1000)).toMatchObject({ status: 'claimed' });
    await vi.advanceTimersByTimeAsync(3000);
    expect(lost).toMatchObject({ code: 'ERR_WEBHOOKS_CLAIM_LOST' });
    resolve();
    await receipt.done;
  });
});

describe('a handler that does not settle', () => {
  const processed: unknown[] = [];
  const listen = (message: unknown) => void processed.push(message);
  beforeEach(() => {
    vi.useFakeTimers({ now: nowMs });
    subscribe('countersign:webhooks:processed', listen);
  });
  afterEach(() => {
    vi.useRealTimers();
    unsubscribe('countersign:webhooks:processed', listen);
    processed.length = 0;
  });
  const timedOut = { code: 'ERR_WEBHOOKS_HANDLE_TIMEOUT' };
  const signed = (id: string) => ({
    body,
    headers: createSigner({ secrets: secret }).sign({ id, body }),
  });
  /** The receiver, and what settles the handler's first call. */
  function hanging(options: Partial<ReceiverOptions<Payload>> = {}) {
    const first = Promise.withResolvers<void>();
    const signals: AbortSignal[] = [];
    const onError = vi.fn();
    const receiver = receiverWith({
      verifier: createVerifier({ secrets: secret }),
      store: memoryReplayStore(),
      leaseMs: 60_000,
      maxInFlight: 1,
      onError,
      handle: async (_, signal) => {
        signals.push(signal);
        if (signals.length === 1) await first.promise;
      },
      ...options,
    } as Partial<ReceiverOptions<Payload>>);
    return { receiver, first, signals, onError };
  }

  it('has its place for five minutes, then somebody else has', async () => {
    const { receiver, signals, onError } = hanging();
    const receipt = await receiver.receive(signed('a'));
    await vi.advanceTimersByTimeAsync(299_999);
    expect(signals[0]?.aborted).toBe(false);
    expect((await receiver.receive(signed('b'))).status).toBe(503);
    await vi.advanceTimersByTimeAsync(1);
    await receipt.done;
    expect(signals[0]?.reason).toMatchObject(timedOut);
    expect(onError).toHaveBeenCalledExactlyOnceWith(
      signals[0]?.reason,
      expect.objectContaining({ id: 'a' }),
    );
    expect(processed).toMatchObject([{ id: 'a', outcome: 'abandoned', error: timedOut }]);
    expect((await receiver.receive(signed('b'))).status).toBe(202);
    await receiver.close();
  });

  it('keeps the id for no longer than a lease, then the next delivery is processed', async () => {
    const { receiver, signals } = hanging({ handleTimeoutMs: 100_000 });
    await receiver.receive(signed('a'));
    await vi.advanceTimersByTimeAsync(100_000);
    expect((await receiver.receive(signed('a'))).status).toBe(409);
    await vi.advanceTimersByTimeAsync(60_000);
    const again = await receiver.receive(signed('a'));
    expect(again.status).toBe(202);
    await again.done;
    expect(signals).toHaveLength(2);
    await receiver.close();
  });

  it('is believed when it succeeds too late, unless somebody else was faster', async () => {
    const { receiver, first } = hanging({ handleTimeoutMs: 100_000 });
    await receiver.receive(signed('a'));
    await vi.advanceTimersByTimeAsync(170_000);
    first.resolve();
    await vi.advanceTimersByTimeAsync(0);
    expect((await receiver.receive(signed('a'))).status).toBe(200);
    expect(processed).toMatchObject([{ outcome: 'abandoned' }, { outcome: 'completed' }]);
  });

  it('gives the id back when it fails too late', async () => {
    const { receiver, first, onError } = hanging({ handleTimeoutMs: 100_000 });
    await receiver.receive(signed('a'));
    await vi.advanceTimersByTimeAsync(100_000);
    first.reject(new Error('aborted'));
    await vi.advanceTimersByTimeAsync(0);
    expect((await receiver.receive(signed('a'))).status).toBe(202);
    expect(onError).toHaveBeenCalledTimes(2);
    await receiver.close();
  });

  it('is bounded, too, when there is no claim because the store is down', async () => {
    const { receiver, signals } = hanging({
      store: failing,
      onStoreError: 'open',
      handleTimeoutMs: 1000,
    });
    const receipt = await receiver.receive(signed('a'));
    await vi.advanceTimersByTimeAsync(1000);
    await receipt.done;
    expect(signals[0]?.reason).toMatchObject(timedOut);
  });

  it.each([
    ['last', { acknowledge: 'last' as const }],
    [
      'after a hand-over',
      { handle: undefined, handOver: async () => await new Promise<void>(() => undefined) },
    ],
  ])('is answered with 503 when the answer comes %s', async (_, options) => {
    const { receiver } = hanging({ ...options, handleTimeoutMs: 1000 } as Partial<
      ReceiverOptions<Payload>
    >);
    const receiving = receiver.receive(signed('a'));
    await vi.advanceTimersByTimeAsync(1000);
    expect((await receiving).status).toBe(503);
    await receiver.close();
  });

  it('does not keep the receiver from closing', async () => {
    const { receiver } = hanging({ handleTimeoutMs: 1000 });
    await receiver.receive(signed('a'));
    const closing = receiver.close();
    await vi.advanceTimersByTimeAsync(1000);
    await closing;
  });

  it('leaves no timer behind when it settles in time', async () => {
    const { receiver, first } = hanging();
    const receipt = await receiver.receive(signed('a'));
    first.resolve();
    await receipt.done;
    expect(vi.getTimerCount()).toBe(0);
  });
});

describe('the audit trail', () => {
  const events: unknown[] = [];
  const listen = (message: unknown) => void events.push(message);
  const channels = ['countersign:webhooks:received', 'countersign:webhooks:processed'];

  afterEach(() => {
    for (const name of channels) unsubscribe(name, listen);
    events.length = 0;
  });

  it.each([
    ['ERR_WEBHOOKS_OVERLOADED', 1],
    ['ERR_WEBHOOKS_CLOSED', 0],
  ])('has an entry for one that is turned away unread: %s', async (code, running) => {
    const { promise, resolve } = gate();
    const receiver = receiverWith({ handle: () => promise, maxInFlight: 1, source: 'acme' });
    for (const name of channels) subscribe(name, listen);
    if (running > 0) await receiver.receive(incoming('a'));
    else await receiver.close();
    events.length = 0;
    const turnedAway = { ...incoming('b'), remoteAddress: '192.0.2.1' };
    expect((await receiver.receive(turnedAway)).status).toBe(503);
    expect(events).toEqual([
      {
        outcome: 'refused',
        status: 503,
        code,
        scheme: 'standard-webhooks',
        source: 'acme',
        bytes: body.length,
        remoteAddress: '192.0.2.1',
      },
    ]);
    resolve();
    await receiver.close();
  });

  it('has an entry for every webhook, accepted or not, and none holds the payload', async () => {
    for (const name of channels) subscribe(name, listen);
    const receiver = receiverWith();
    await (await receiver.receive({ ...incoming('a'), remoteAddress: '192.0.2.1' })).done;
    await receiver.receive(incoming('a'));
    await receiver.receive({ ...incoming('b'), body: `${body} ` });
    await receiver.receive(incoming('c', 'secret payload'));
    const source = 'standard-webhooks';
    expect(events).toMatchObject([
      {
        outcome: 'accepted',
        status: 202,
        id: 'a',
        keyIndex: 0,
        bytes: 44,
        remoteAddress: '192.0.2.1',
      },
      { outcome: 'completed', id: 'a', source },
      { outcome: 'duplicate', status: 200, id: 'a' },
      { outcome: 'refused', status: 403, code: 'ERR_WEBHOOKS_SIGNATURE_MISMATCH' },
      { outcome: 'released', id: 'c' },
      { outcome: 'refused', status: 400, code: 'ERR_WEBHOOKS_PAYLOAD_NOT_JSON', id: 'c' },
    ]);
    expect(events[3]).not.toHaveProperty('id');
    expect(JSON.stringify(events)).not.toContain('secret payload');
  });
});
