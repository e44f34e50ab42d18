import { channel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { fakeClock } from '@countersign/testkit/clock';
import { Agent, type Dispatcher, interceptors, request } from 'undici';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  concurrency,
  createRateLimiter,
  fixedWindow,
  memoryRateLimitStore,
  type Policy,
  type RateLimiter,
  type RateLimitStore,
} from '../src/index.ts';
import { type PaceOptions, pace } from '../src/undici.ts';

let server: Server;
let origin: string;
let requests = 0;
let answer: (request: IncomingMessage, response: ServerResponse) => unknown;
const agents: Agent[] = [];

beforeEach(async () => {
  requests = 0;
  answer = (_, response) => response.end('ok');
  server = createServer((incoming, response) => {
    requests += 1;
    answer(incoming, response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  await Promise.all(agents.splice(0).map((agent) => agent.destroy()));
  server.close();
});

const thousand = { p: [fixedWindow({ limit: 1000, windowSeconds: 3600 })] };

/** Its clock stands still: no window turns, and no restriction ends, in the middle of a test. */
const frozenStore = (): RateLimitStore => memoryRateLimitStore({ now: fakeClock().now });

function member(
  store: RateLimitStore,
  options: PaceOptions<'p'> = {},
  policies: { readonly p: readonly Policy[] } = thousand,
): { limiter: RateLimiter<'p'>; dispatcher: Dispatcher } {
  const limiter = createRateLimiter({ store, policies });
  const agent = new Agent();
  agents.push(agent);
  return { limiter, dispatcher: agent.compose(pace(limiter, options)) };
}

async function get(dispatcher: Dispatcher): Promise<number> {
  const { statusCode, body } = await request(origin, { dispatcher });
  await body.dump();
  return statusCode;
}

describe('pace', () => {
  test('lets requests through, whole, and charges each', async () => {
    const { limiter, dispatcher } = member(frozenStore());
    const { body, statusCode } = await request(`${origin}/a`, {
      dispatcher,
      method: 'POST',
      body: 'x',
    });
    expect([statusCode, await body.text()]).toEqual([200, 'ok']);
    expect((await limiter.peek(origin)).remaining).toBe(999);
  });

  test('fails a request that would have to wait too long, without sending it', async () => {
    const few = { p: [fixedWindow({ limit: 2, windowSeconds: 3600 })] };
    const { dispatcher } = member(frozenStore(), { maxWaitMs: 10 }, few);
    await get(dispatcher);
    await get(dispatcher);
    await expect(get(dispatcher)).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_WAIT' });
    expect(requests).toBe(2);
  });

  test('lets a request that waits be aborted', async () => {
    const few = { p: [fixedWindow({ limit: 1, windowSeconds: 10 })] };
    const { dispatcher } = member(frozenStore(), {}, few);
    await get(dispatcher);
    const controller = new AbortController();
    const waiting = request(origin, { dispatcher, signal: controller.signal });
    controller.abort(new Error('never mind'));
    await expect(waiting).rejects.toThrow('never mind');
    expect(requests).toBe(1);
  });

  test('holds a body that streams until its turn comes, and fails with it when it fails', async () => {
    const { limiter, dispatcher } = member(frozenStore(), { maxWaitMs: 7_200_000 });
    const received: string[] = [];
    answer = async (incoming, response) => {
      incoming.setEncoding('utf8').on('data', (text: string) => void received.push(text));
      await once(incoming, 'end');
      response.end('ok');
    };
    const send = (body: Readable): Promise<number> =>
      request(origin, { dispatcher, method: 'POST', body }).then(({ statusCode }) => statusCode);
    await limiter.check(origin, { cost: 1000 });
    const broken = new Readable({ read() {} });
    const [failing, waiting] = [send(broken), send(Readable.from(['one ', 'two']))];
    broken.destroy(new Error('the file is gone'));
    await expect(failing).rejects.toThrow('the file is gone');
    expect(requests).toBe(0);
    await limiter.reset(origin);
    expect(await waiting).toBe(200);
    expect(received.join('')).toBe('one two');
  });

  test('gives a slot back when its request is over, however that ended', async () => {
    const one = { p: [concurrency({ limit: 1, leaseSeconds: 3600 })] };
    const { limiter, dispatcher } = member(frozenStore(), { maxWaitMs: 10_000 }, one);
    let underway = 0;
    answer = async (incoming, response) => {
      underway += 1;
      expect(underway).toBe(1);
      await new Promise(setImmediate);
      underway -= 1;
      if (incoming.url === '/broken') response.destroy();
      else response.end('ok');
    };
    await Promise.all([get(dispatcher), get(dispatcher), get(dispatcher)]);
    await expect(request(`${origin}/broken`, { dispatcher })).rejects.toThrow();
    expect(await get(dispatcher)).toBe(200);
    await expect.poll(async () => (await limiter.peek(origin)).remaining).toBe(1);
  });

  test('paces by what the caller says, or not at all', async () => {
    const { limiter, dispatcher } = member(frozenStore(), {
      key: ({ path }) => (path === '/free' ? undefined : 'tenant'),
      cost: ({ method }) => (method === 'POST' ? 5 : 1),
    });
    await (await request(`${origin}/free`, { dispatcher })).body.dump();
    await (await request(origin, { dispatcher, method: 'POST' })).body.dump();
    expect((await limiter.peek('tenant')).remaining).toBe(995);
  });

  test.each([
    ['429 with Retry-After', 429, { 'retry-after': '30' }],
    ['503 with Retry-After', 503, { 'retry-after': '30' }],
    ['429 with RateLimit', 429, { ratelimit: '"q";r=0;t=30' }],
    ['the last of the quota', 200, { ratelimit: '"q";r=0;t=30' }],
    [
      'the last of an old-style quota',
      200,
      { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '30' },
    ],
  ])('the whole fleet slows down when one member is told to: %s', async (_, status, headers) => {
    const store = frozenStore();
    const [told, other] = [member(store), member(store, { maxWaitMs: 1000 })];
    answer = (_incoming, response) => response.writeHead(status, headers).end();
    await get(told.dispatcher);
    await expect.poll(async () => (await other.limiter.peek(origin)).allowed).toBe(false);
    expect((await other.limiter.peek(origin)).retryAfterMs).toBeGreaterThan(29_000);
    await expect(get(other.dispatcher)).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_WAIT' });
    expect(requests).toBe(1);
  });

  test.each([
    ['a 429 that says nothing', 429, {}, 1000],
    ['a 429 that says that there is more', 429, { ratelimit: '"q";r=5;t=60' }, 1000],
    ['a 503 that says nothing', 503, {}, 0],
    ['a Retry-After of 0', 429, { 'retry-after': '0' }, 0],
    ['a Retry-After of a success', 200, { 'retry-after': '30' }, 0],
  ])('%s', async (_, status, headers, pausedMs) => {
    const { limiter, dispatcher } = member(frozenStore());
    const restricted = channel('countersign:rate-limit:restricted');
    const told: unknown[] = [];
    const record = (message: unknown): void => void told.push(message);
    restricted.subscribe(record);
    answer = (_incoming, response) => response.writeHead(status, headers).end();
    await get(dispatcher);
    // What is told is told before the answer is there.
    expect((await limiter.peek(origin)).retryAfterMs).toBe(pausedMs);
    restricted.unsubscribe(record);
    expect(told).toEqual(
      pausedMs === 0 ? [] : [{ subject: origin, policy: 'p', remaining: 0, durationMs: pausedMs }],
    );
  });

  test('what the server has left counts for the fleet', async () => {
    const store = frozenStore();
    const [told, other] = [member(store), member(store, { maxWaitMs: 10 })];
    answer = (_incoming, response) => response.writeHead(200, { ratelimit: '"q";r=2;t=60' }).end();
    await get(told.dispatcher);
    await expect.poll(async () => (await other.limiter.peek(origin)).remaining).toBe(2);
    await get(other.dispatcher);
    await get(other.dispatcher);
    await expect(get(other.dispatcher)).rejects.toMatchObject({ code: 'ERR_RATE_LIMIT_WAIT' });
    expect(requests).toBe(3);
  });

  test('what the server has left is compared with what we count, not with free slots', async () => {
    const both = { p: [concurrency({ limit: 2 }), ...thousand.p] };
    const { limiter, dispatcher } = member(frozenStore(), {}, both);
    answer = (_incoming, response) =>
      response.writeHead(200, { ratelimit: '"q";r=100;t=60' }).end();
    await get(dispatcher);
    await expect.poll(async () => (await limiter.peek(origin)).policies[1]?.remaining).toBe(100);
  });

  test('a server that says that a second is used up, in a quarter of an hour of which little is left, is left alone for a second', async () => {
    const { limiter, dispatcher } = member(frozenStore());
    const fields = ['"second";r=9;t=1, "hour";r=8;t=3000', '"second";r=0;t=1, "hour";r=7;t=3000'];
    answer = (_incoming, response) => response.writeHead(200, { ratelimit: fields.shift() }).end();
    await get(dispatcher);
    await expect.poll(async () => (await limiter.peek(origin)).remaining).toBe(8);
    await get(dispatcher);
    await expect.poll(async () => (await limiter.peek(origin)).remaining).toBe(0);
    expect((await limiter.peek(origin)).retryAfterMs).toBeLessThanOrEqual(1000);
  });

  test('slots of the server that are taken stop nobody: they are free again when responses have ended', async () => {
    const { limiter, dispatcher } = member(frozenStore());
    answer = (_incoming, response) =>
      response
        .writeHead(200, {
          'ratelimit-policy': '"slots";q=1;qu="concurrent-requests", "q";q=900;w=60',
          ratelimit: '"slots";r=0;t=60, "q";r=800;t=60',
        })
        .end();
    await get(dispatcher);
    await expect.poll(async () => (await limiter.peek(origin)).remaining).toBe(800);
  });

  test('charges every request that is sent, of a retry and of a redirect, to the origin it goes to', async () => {
    const limiter = createRateLimiter({ store: frozenStore(), policies: thousand });
    const agent = new Agent();
    agents.push(agent);
    const dispatcher = agent.compose(
      pace(limiter),
      interceptors.redirect({ maxRedirections: 1 }),
      interceptors.retry({ minTimeout: 1, maxRetries: 3 }),
    );
    const elsewhere = origin.replace('127.0.0.1', 'localhost');
    answer = ({ headers }, response) => {
      if (headers.host?.startsWith('localhost')) response.end('ok');
      else if (requests < 3) response.writeHead(500).end();
      else response.writeHead(302, { location: elsewhere }).end();
    };
    expect(await get(dispatcher)).toBe(200);
    expect(requests).toBe(4);
    expect((await limiter.peek(origin)).remaining).toBe(997);
    expect((await limiter.peek(elsewhere)).remaining).toBe(999);
  });

  test.each([
    ['key', { key: 'ip' }],
    ['cost', { cost: 5 }],
    ['maxWaitMs', { maxWaitMs: Number.NaN }],
    ['maxWaitMs', { maxWaitMs: -1 }],
    ['maxRestrictMs', { maxRestrictMs: 0 }],
  ])('refuses a %s that makes no sense when it is made', (option, options) => {
    const limiter = createRateLimiter({ store: frozenStore(), policies: thousand });
    expect(() => pace(limiter, options as never)).toThrow(new RegExp(`^${option}: `));
    expect(() => pace(undefined as never)).toThrow(/^limiter: /);
  });

  test('a server that knows more than we have left changes nothing', async () => {
    const { limiter, dispatcher } = member(frozenStore());
    answer = (_incoming, response) =>
      response.writeHead(200, { ratelimit: '"q";r=5000;t=60' }).end();
    await get(dispatcher);
    expect((await limiter.peek(origin)).remaining).toBe(999);
  });

  test('no server can stop the fleet for longer than it may', async () => {
    const { limiter, dispatcher } = member(frozenStore(), { maxRestrictMs: 5000 });
    answer = (_incoming, response) => response.writeHead(429, { 'retry-after': '999999999' }).end();
    await get(dispatcher);
    await expect.poll(async () => (await limiter.peek(origin)).allowed).toBe(false);
    expect((await limiter.peek(origin)).retryAfterMs).toBeLessThanOrEqual(5000);
  });
});
