import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { egressAgent } from '@countersign/egress';
import { testCertificate } from '@countersign/testkit/certificate';
import { fakeClock } from '@countersign/testkit/clock';
import {
  drip,
  endlessBody,
  resetOnRequest,
  respond,
  retryAfter,
  type ScriptedServer,
  silence,
  stall,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  clientErrors,
  createSender,
  createSigner,
  createVerifier,
  generateSecret,
  type SenderOptions,
  type WebhookDispatcher,
} from '../src/index.ts';
import { penalties } from '../src/penalty.ts';

const secret = generateSecret();
const agent = egressAgent({ allow: ['http://127.0.0.0/8'] });
let server: ScriptedServer;

beforeEach(async () => {
  server = await startScriptedServer();
});
afterEach(async () => {
  await server.stop();
});
afterAll(async () => {
  await agent.close();
});

/** A sender whose waits take no time, are not spread, and are noted, on a clock that they move. */
function patient(options: SenderOptions = {}) {
  const clock = fakeClock();
  const waits: number[] = [];
  const sender = createSender({
    signer: createSigner({ secrets: secret }),
    egress: agent,
    now: clock.now,
    random: () => 0.5,
    sleep: async (ms) => {
      waits.push(ms);
      clock.advance(ms);
    },
    ...options,
  });
  return { sender, waits, clock };
}

const event = { id: 'msg_1', payload: { type: 'invoice.paid' } };

describe('createSender', () => {
  it('delivers, signed', async () => {
    const { sender, clock } = patient();
    const result = await sender.deliver({ endpoint: `${server.origin}/hook?a=1`, event });
    expect(result).toMatchObject({
      eventId: 'msg_1',
      delivered: true,
      outcome: 'delivered',
      attempts: [{ attempt: 1, verdict: 'delivered', status: 200 }],
    });
    const [request] = server.requests;
    expect(request).toMatchObject({ method: 'POST', target: '/hook?a=1' });
    const verifier = createVerifier({ secrets: secret, now: clock.now });
    expect(verifier.verify(request?.body ?? '', request?.headers ?? {})).toMatchObject({
      id: 'msg_1',
    });
  });

  it('climbs the ladder with the same id, freshly signed each time', async () => {
    const scripts = [500, 302, 404, 200].map((status) => respond({ status }));
    server.enqueue(...scripts);
    const { sender, waits } = patient();
    const result = await sender.deliver({ endpoint: server.origin, event });
    expect(result.attempts.map(({ status }) => status)).toEqual([500, 302, 404, 200]);
    expect(waits).toEqual([5000, 300_000, 1_800_000]);
    const sent = server.requests.map(({ headers }) => headers);
    expect(new Set(sent.map((headers) => headers['webhook-id']))).toEqual(new Set(['msg_1']));
    expect(new Set(sent.map((headers) => headers['webhook-timestamp'])).size).toBe(4);
    expect(new Set(sent.map((headers) => headers['webhook-signature'])).size).toBe(4);
  });

  it('tells of every attempt and of the end, and names no path', async () => {
    server.enqueue(respond({ status: 500 }));
    const told: (readonly [string, unknown])[] = [];
    const attempt = (message: unknown) => void told.push(['attempt', message]);
    const delivery = (message: unknown) => void told.push(['delivery', message]);
    subscribe('countersign:webhooks:attempt', attempt);
    subscribe('countersign:webhooks:delivery', delivery);
    await patient().sender.deliver({ endpoint: `${server.origin}/token`, event });
    unsubscribe('countersign:webhooks:attempt', attempt);
    unsubscribe('countersign:webhooks:delivery', delivery);
    const common = { eventId: 'msg_1', endpoint: server.origin };
    expect(told).toMatchObject([
      ['attempt', { ...common, attempt: 1, verdict: 'failed', status: 500 }],
      ['attempt', { ...common, attempt: 2, verdict: 'delivered', status: 200 }],
      ['delivery', { ...common, outcome: 'delivered', attempts: 2 }],
    ]);
    expect(JSON.stringify(told)).not.toContain('token');
  });

  it('gives up when the schedule is over', async () => {
    server.enqueue(resetOnRequest(), resetOnRequest());
    const { sender, waits } = patient({ schedule: [10, 20] });
    const result = await sender.deliver({ endpoint: server.origin, event });
    expect(result).toMatchObject({ delivered: false, outcome: 'exhausted' });
    expect(result.attempts).toMatchObject([{ verdict: 'failed' }, { verdict: 'failed' }]);
    expect(waits).toEqual([10, 20]);
  });

  it('asks a function for the schedule', async () => {
    server.enqueue(respond({ status: 500 }), respond({ status: 500 }));
    const { sender, waits } = patient({ schedule: (n) => (n < 3 ? n * 7 : undefined) });
    expect((await sender.deliver({ endpoint: server.origin, event })).outcome).toBe('exhausted');
    expect(waits).toEqual([7, 14]);
  });

  it('spreads the waits by a fifth both ways', async () => {
    for (const [value, expected] of [
      [0, 80],
      [0.5, 100],
      [1, 120],
    ] as const) {
      const { sender, waits } = patient({ schedule: [100], jitter: 0.2, random: () => value });
      await sender.deliver({ endpoint: server.origin, event });
      expect(waits).toEqual([expected]);
    }
  });

  it.each([
    [0, 0.8],
    [1, 1.2],
  ])(
    'tries ten times in three days, a fifth sooner or later, unless told otherwise: %d',
    async (value, factor) => {
      server.enqueue(...Array.from({ length: 10 }, () => respond({ status: 500 })));
      const { sender, waits } = patient({ random: () => value });
      expect((await sender.deliver({ endpoint: server.origin, event })).outcome).toBe('exhausted');
      const [minute, hour] = [60_000, 3_600_000];
      const schedule = [
        5000,
        5 * minute,
        30 * minute,
        ...[2, 5, 10, 14, 20, 24].map((h) => h * hour),
      ];
      expect(waits).toEqual(schedule.map((wait) => Math.round(wait * factor)));
      expect(server.requests).toHaveLength(10);
    },
  );

  it('ends with 410: the endpoint wants no more', async () => {
    server.enqueue(respond({ status: 410 }));
    const { sender } = patient();
    expect((await sender.deliver({ endpoint: server.origin, event })).outcome).toBe('gone');
    expect(server.requests).toHaveLength(1);
  });

  it('does not follow redirects', async () => {
    server.enqueue(respond({ status: 307, headers: { location: `${server.origin}/elsewhere` } }));
    const { sender } = patient({ schedule: [0] });
    expect((await sender.deliver({ endpoint: server.origin, event })).outcome).toBe('exhausted');
    expect(server.requests).toHaveLength(1);
  });

  it('leaves an endpoint alone that asked for it, also with other deliveries', async () => {
    server.enqueue(retryAfter('120', 429));
    const { sender, waits } = patient();
    expect((await sender.deliver({ endpoint: server.origin, event })).outcome).toBe('delivered');
    expect(waits).toEqual([120_000]);

    const single = patient({ schedule: [0] });
    server.enqueue(retryAfter('60', 429));
    expect((await single.sender.deliver({ endpoint: server.origin, event })).outcome).toBe(
      'exhausted',
    );
    expect((await single.sender.deliver({ endpoint: server.origin, event })).outcome).toBe(
      'delivered',
    );
    expect(single.waits).toEqual([60_000]);
  });

  it('caps Retry-After', async () => {
    server.enqueue(retryAfter('999999999', 503));
    const { sender, waits } = patient({ maxRetryAfterMs: 10_000, schedule: [0, 0] });
    await sender.deliver({ endpoint: server.origin, event });
    expect(waits).toEqual([10_000]);
  });

  it('takes a Retry-After of more than a day for a day, unless told otherwise', async () => {
    server.enqueue(retryAfter('86401', 503));
    const { sender, waits } = patient({ schedule: [0, 0] });
    await sender.deliver({ endpoint: server.origin, event });
    expect(waits).toEqual([86_400_000]);
  });

  it('leaves an endpoint alone for as long as it asked at most, and forgets those that asked first', () => {
    const clock = fakeClock();
    const leftAlone = penalties({ now: clock.now, maxEntries: 2 });
    leftAlone.add('a', 5000);
    leftAlone.add('a', 10);
    leftAlone.add('b', 10);
    expect(leftAlone.endsAtMs('a')).toBe(clock.now() + 5000);
    leftAlone.add('c', 10);
    expect(['a', 'b', 'c'].map((id) => leftAlone.endsAtMs(id) > 0)).toEqual([false, true, true]);
  });

  it('does not burn the ladder on a server whose TLS is too old', async () => {
    const { cert, key } = testCertificate();
    const old = {
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    } as const;
    const site = await startScriptedServer({ tls: { cert, key, ...old } });
    const modern = egressAgent({ allow: ['127.0.0.1'], tls: { ca: cert } });
    const { sender } = patient({ egress: modern });
    const { outcome, attempts } = await sender.deliver({ endpoint: site.origin, event });
    expect([outcome, attempts.length]).toEqual(['rejected', 1]);
    await modern.close();
    await site.stop();
  });

  it.each([
    ['ERR_SSL_NO_PROTOCOLS_AVAILABLE', 'rejected'],
    ['ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION', 'rejected'],
    ['ERR_SSL_UNSUPPORTED_PROTOCOL', 'rejected'],
    // Mended by whoever runs the endpoint, perhaps within the hour.
    ['CERT_HAS_EXPIRED', 'failed'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'failed'],
  ])('takes %s for %s, however deep it is', async (code, verdict) => {
    const cause = Object.assign(new Error('handshake'), { code });
    const broken: WebhookDispatcher = {
      dispatch(_, handler) {
        handler.onResponseError(undefined, new Error('fetch failed', { cause }));
        return true;
      },
    };
    const { sender } = patient({ egress: broken });
    expect(await sender.attempt({ endpoint: server.origin, event })).toMatchObject({
      verdict,
      error: code,
    });
  });

  it('does not burn the ladder on what our own rules refuse', async () => {
    const strict = egressAgent();
    const { sender } = patient({ egress: strict });
    const result = await sender.deliver({ endpoint: server.origin, event });
    expect(result).toMatchObject({
      outcome: 'rejected',
      attempts: [{ verdict: 'rejected', error: 'ERR_EGRESS_DENIED' }],
    });
    expect(server.connections).toBe(0);
    await strict.close();
  });

  it('takes a 4xx for permanent only when told to, and never a "later"', async () => {
    server.enqueue(...[429, 408, 425, 409, 403].map((status) => respond({ status })));
    const { sender } = patient({ isPermanent: clientErrors });
    const result = await sender.deliver({ endpoint: server.origin, event });
    expect(result.outcome).toBe('rejected');
    expect(result.attempts).toHaveLength(5);
  });

  it.each([
    ['never answers', silence()],
    ['answers and then never ends', stall()],
    ['drips its answer', drip(20, { body: 'x'.repeat(1000) })],
  ])('gives an endpoint that %s no more than the attempt deadline', async (_, script) => {
    server.enqueue(script);
    const { sender } = patient({ schedule: [0], attemptTimeoutMs: 50 });
    const result = await sender.deliver({ endpoint: server.origin, event });
    expect(result.attempts).toMatchObject([
      { verdict: 'failed', error: 'ERR_WEBHOOKS_ATTEMPT_TIMEOUT' },
    ]);
  });

  it('gives a provider of secrets that never answers no more than the attempt deadline', async () => {
    const signer = createSigner({ secrets: () => new Promise<never>(() => undefined) });
    const { sender } = patient({ schedule: [0], attemptTimeoutMs: 50, signer });
    const { attempts } = await sender.deliver({ endpoint: server.origin, event });
    expect(attempts).toMatchObject([{ verdict: 'failed', error: 'ERR_WEBHOOKS_ATTEMPT_TIMEOUT' }]);
    expect(server.requests).toHaveLength(0);
  });

  it('leaves the endpoint what a provider of secrets left of the attempt deadline', async () => {
    vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout'] });
    const { run } = silence();
    server.enqueue({
      at: 'request',
      run: async (exchange) => {
        vi.advanceTimersByTime(40_000);
        await run(exchange);
      },
    });
    const secrets = async () => {
      vi.advanceTimersByTime(60_000);
      return [secret];
    };
    const signer = createSigner({ secrets });
    const { sender } = patient({ schedule: [0], attemptTimeoutMs: 100_000, signer });
    const { attempts } = await sender.deliver({ endpoint: server.origin, event });
    vi.useRealTimers();
    expect(attempts).toMatchObject([
      { verdict: 'failed', error: 'ERR_WEBHOOKS_ATTEMPT_TIMEOUT', durationMs: 100_000 },
    ]);
    expect(server.requests).toHaveLength(1);
  });

  it('ends an attempt that waits for its secrets when it is aborted', async () => {
    const signer = createSigner({ secrets: () => new Promise<never>(() => undefined) });
    const { sender } = patient({ schedule: [0], signer });
    const controller = new AbortController();
    const delivering = sender.deliver({
      endpoint: server.origin,
      event,
      signal: controller.signal,
    });
    setImmediate(() => controller.abort());
    expect((await delivering).outcome).toBe('aborted');
  });

  it('sends a signed header once, whatever the letter case that a signer or an endpoint writes it in', async () => {
    const signer = {
      scheme: createSigner({ secrets: secret }).scheme,
      sign: () => ({ 'X-Acme-Signature': 'signed' }),
    };
    const { sender } = patient({ signer });
    const endpoint = { url: server.origin, headers: { 'x-acme-Signature': 'forged' } };
    await sender.deliver({ endpoint, event });
    expect(server.requests[0]?.headers['x-acme-signature']).toBe('signed');
  });

  it('reads no more of a response than the cap, and keeps an excerpt of printable text', async () => {
    server.enqueue(endlessBody(), respond({ body: 'a\r\nb\u001b[31mc' }));
    const { sender } = patient({ maxResponseBytes: 10_000, excerptBytes: 6 });
    const first = await sender.attempt({ endpoint: server.origin, event });
    expect(first.verdict).toBe('delivered');
    expect(first.excerpt?.length).toBeLessThanOrEqual(6);
    const second = await sender.attempt({ endpoint: server.origin, event });
    expect(second.excerpt).toBe('a b [');
  });

  it('reads 64 KiB and keeps 1 KiB of a response, unless told otherwise', async () => {
    const answering = (bytes: number, aborted: () => void): WebhookDispatcher => ({
      dispatch(_, handler) {
        const controller = { abort: aborted };
        handler.onRequestStart(controller, {});
        handler.onResponseStart(controller, 200, {});
        handler.onResponseData(controller, Buffer.alloc(bytes, 'x'));
        return true;
      },
    });
    const abort = vi.fn();
    const controller = new AbortController();
    const cut = patient({ egress: answering(65_537, abort) });
    const { verdict, excerpt } = await cut.sender.attempt({ endpoint: server.origin, event });
    expect([verdict, excerpt?.length]).toEqual(['delivered', 1024]);
    expect(abort).toHaveBeenCalledOnce();
    const waiting = patient({ egress: answering(65_536, vi.fn()) }).sender;
    const { signal } = controller;
    const attempting = waiting.attempt({ endpoint: server.origin, event, signal });
    // There may be more of it: it has not come to its end.
    setImmediate(() => controller.abort());
    expect((await attempting).verdict).toBe('aborted');
  });

  it('gives an attempt 15 seconds, unless told otherwise', async () => {
    vi.useFakeTimers();
    const { sender } = patient({ egress: { dispatch: () => true } });
    let ended = false;
    const attempting = sender.attempt({ endpoint: server.origin, event }).finally(() => {
      ended = true;
    });
    // The modules of the sending side are loaded first.
    while (vi.getTimerCount() === 0)
      await new Promise((resolve) => queueMicrotask(() => resolve(undefined)));
    await vi.advanceTimersByTimeAsync(14_000);
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(1000);
    expect((await attempting).error).toBe('ERR_WEBHOOKS_ATTEMPT_TIMEOUT');
    vi.useRealTimers();
  });

  it.each([
    'connection',
    'content-length',
    'content-type',
    'expect',
    'host',
    'keep-alive',
    'te',
    'trailer',
    'transfer-encoding',
    'upgrade',
    'webhook-anything',
  ])('lets no endpoint set the header %s', async (name) => {
    for (const written of [name, name.toUpperCase()]) {
      const endpoint = { url: server.origin, headers: { [written]: 'x' } };
      await expect(patient().sender.deliver({ endpoint, event })).rejects.toMatchObject({
        code: 'ERR_WEBHOOKS_ENDPOINT_INVALID',
      });
    }
    expect(server.requests).toHaveLength(0);
  });

  it('sends custom headers, which cannot replace what is signed or frames the message', async () => {
    const { sender } = patient();
    await sender.deliver({ endpoint: { url: server.origin, headers: { 'X-Tenant': 'a' } }, event });
    expect(server.requests[0]?.headers).toMatchObject({ 'x-tenant': 'a' });
    for (const headers of [
      { 'Webhook-Id': 'x' },
      { Host: 'x' },
      { 'Content-Length': '1' },
      { 'x-a': 'b\r\nc: d' },
      { 'x a': 'b' },
    ]) {
      await expect(
        sender.deliver({ endpoint: { url: server.origin, headers }, event }),
      ).rejects.toMatchObject({ code: 'ERR_WEBHOOKS_ENDPOINT_INVALID' });
    }
  });

  it.each([
    [{ endpoint: 'not a url', event }, 'ERR_WEBHOOKS_ENDPOINT_INVALID'],
    [{ endpoint: 'ftp://example.com', event }, 'ERR_WEBHOOKS_ENDPOINT_INVALID'],
    [{ endpoint: 'https://user:password@example.com', event }, 'ERR_WEBHOOKS_ENDPOINT_INVALID'],
    [{ endpoint: 'https://example.com', event: {} }, 'ERR_WEBHOOKS_EVENT_INVALID'],
    [
      { endpoint: 'https://example.com', event: { type: 'x'.repeat(257), payload: 1 } },
      'ERR_WEBHOOKS_EVENT_INVALID',
    ],
    [
      { endpoint: 'https://example.com', event: { type: 'a b', payload: 1 } },
      'ERR_WEBHOOKS_EVENT_INVALID',
    ],
    [
      { endpoint: 'https://example.com', event: { type: null as unknown as string, payload: 1 } },
      'ERR_WEBHOOKS_EVENT_INVALID',
    ],
    [
      {
        endpoint: 'https://example.com',
        event: { contentType: 7 as unknown as string, payload: 1 },
      },
      'ERR_WEBHOOKS_EVENT_INVALID',
    ],
    [
      { endpoint: 'https://example.com', event: { contentType: 'a\r\nb: c', payload: 1 } },
      'ERR_WEBHOOKS_EVENT_INVALID',
    ],
    [
      { endpoint: 'https://example.com', event: { payload: () => 1 } },
      'ERR_WEBHOOKS_EVENT_INVALID',
    ],
    [
      { endpoint: 'https://example.com', event: { id: 'a.b', body: '' } },
      'ERR_WEBHOOKS_ID_MALFORMED',
    ],
  ])('refuses %j', async (delivery, code) => {
    await expect(patient().sender.deliver(delivery)).rejects.toMatchObject({ code });
  });

  it('ends a delivery that is aborted, waiting or not', async () => {
    server.enqueue(respond({ status: 500 }), silence());
    const controller = new AbortController();
    const { sender } = patient({
      sleep: async () => {
        controller.abort();
        throw controller.signal.reason;
      },
    });
    const result = await sender.deliver({
      endpoint: server.origin,
      event,
      signal: controller.signal,
    });
    expect(result).toMatchObject({ outcome: 'aborted', attempts: [{ verdict: 'failed' }] });
  });

  it('aborts a running attempt with its delivery, and not when it is closed', async () => {
    let answer = (): void => undefined;
    const asked = new Promise<void>((resolve) => {
      answer = resolve;
    });
    server.enqueue(silence(), {
      at: 'request',
      run: async ({ write }) => {
        await asked;
        await write('HTTP/1.1 204 No Content\r\n\r\n');
      },
    });
    const controller = new AbortController();
    const { sender } = patient({ attemptTimeoutMs: 600_000 });
    const { signal } = controller;
    const aborted = sender.deliver({ endpoint: server.origin, event, signal });
    while (server.requests.length === 0) await new Promise(setImmediate);
    controller.abort();
    expect(await aborted).toMatchObject({ outcome: 'aborted', attempts: [{ verdict: 'aborted' }] });

    const running = sender.deliver({ endpoint: server.origin, event });
    while (server.requests.length === 1) await new Promise(setImmediate);
    let closed = false;
    const closing = sender.close().then(() => {
      closed = true;
    });
    await new Promise(setImmediate);
    expect(closed).toBe(false);
    answer();
    expect((await running).outcome).toBe('delivered');
    await closing;
  });

  it('finishes running attempts and ends waiting deliveries when it is closed', async () => {
    server.enqueue(respond({ status: 500 }));
    const real = createSender({
      signer: createSigner({ secrets: secret }),
      egress: agent,
      schedule: [0, 1_000_000],
    });
    const delivering = real.deliver({ endpoint: server.origin, event });
    while (server.requests.length === 0) await new Promise(setImmediate);
    await real.close();
    expect((await delivering).outcome).toBe('aborted');
    await expect(real.deliver({ endpoint: server.origin, event })).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_CLOSED',
    });
  });

  it('needs a signer', async () => {
    const sender = createSender({ egress: agent });
    await expect(sender.deliver({ endpoint: server.origin, event })).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_ENDPOINT_INVALID',
    });
  });

  it.each([
    { schedule: [] },
    { schedule: [-1] },
    { jitter: 2 },
    { attemptTimeoutMs: 0 },
    // Every attempt would fail, for days.
    { egress: { allow: ['public'] } as never },
    { signer: 'whsec_' as never },
    { isPermanent: [404] as never },
  ])('refuses the options %j', (options) => {
    const make = () => createSender(options);
    expect(make).toThrow(TypeError);
    expect(make).toThrow(new RegExp(Object.keys(options)[0] ?? ''));
  });
});
