import { createServer } from 'node:http';
import { constants, createServer as createServer2, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { type FaultProxy, startFaultProxy } from '@countersign/testkit/fault-proxy';
import {
  decompressionBomb,
  drip,
  endlessBody,
  informationalFlood,
  lyingContentLength,
  rawBytes,
  resetAfterHeaders,
  resetMidBody,
  resetOnAccept,
  resetOnHead,
  resetOnRequest,
  respond,
  respondJson,
  retryAfter,
  type Script,
  type ScriptedServer,
  silence,
  stall,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { H2CClient } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, ClientError, type ClientOptions, createClient } from '../src/index.ts';

const good = respondJson({ done: true });
const payment = { json: { amount: 5, note: 'x'.repeat(2000) } };

let server: ScriptedServer;
const clients: Client[] = [];
// One for each test: an attempt that is over before it has reached the server leaves its script to whoever comes next.
beforeEach(async () => {
  server = await startScriptedServer({ otherwise: good });
});
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
  await server.stop();
});

function clientFor(origin: string, options: Partial<ClientOptions> = {}): Client {
  const client = createClient({
    origin,
    egress: { allow: ['http://127.0.0.1:*'] },
    retry: { baseMs: 1, capMs: 2 },
    attemptTimeoutMs: 1000,
    deadlineMs: 10_000,
    ...options,
  });
  clients.push(client);
  return client;
}

async function failure(call: Promise<unknown>): Promise<ClientError> {
  const error = await call.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof ClientError)) throw error;
  return error;
}

describe('a server that misbehaves once', () => {
  test.each<[string, Script]>([
    ['resets the connection on accept', resetOnAccept()],
    ['resets it after the head', resetOnHead()],
    ['resets it after the request, when the work may be done', resetOnRequest()],
    ['resets it after its headers', resetAfterHeaders()],
    ['resets it within the body', resetMidBody({ body: '{"do' }, 100)],
    ['promises more than it sends', lyingContentLength({ body: '{"do' }, 100)],
    ['never answers', silence()],
    ['never reads the body', stall()],
    ['answers byte by byte', drip(100, { body: 'x'.repeat(1000) })],
    ['speaks something else', rawBytes('220 mail.example.com ESMTP\r\n')],
    ['closes without a word', rawBytes('')],
    [
      'sends a broken chunk',
      rawBytes('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n'),
    ],
    ['is overloaded', respond({ status: 503 })],
    ['sends garbage as Retry-After', retryAfter('whenever')],
    ['sends two values as Retry-After', retryAfter('0, 0')],
    ['sends a number that is too long as Retry-After', retryAfter('1e99')],
    [
      'sends a Retry-After of a day that does not exist',
      retryAfter('Tue, 31 Feb 2026 00:00:00 GMT'),
    ],
    ['is still at work', respond({ status: 409, headers: { 'retry-after': '0' } })],
  ])('%s: the second attempt has the same key and succeeds', async (_name, script) => {
    server.enqueue(script);
    const before = server.requests.length;
    const response = await clientFor(server.origin).post('/payments', payment);
    expect(response).toMatchObject({ status: 200, body: { done: true }, attempts: 2 });
    const keys = server.requests
      .slice(before)
      .map(({ headers }) => headers['idempotency-key'])
      .filter((key) => key !== undefined);
    expect(new Set(keys)).toEqual(new Set([`"${response.idempotencyKey}"`]));
    expect(server.requests.at(-1)?.body.toString()).toBe(JSON.stringify(payment.json));
  });
});

describe('a server of HTTP/2 that misbehaves once', () => {
  test.each<[string, (stream: ServerHttp2Stream) => void]>([
    ['resets the stream', (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR)],
    ['cancels the stream', (stream) => stream.close(constants.NGHTTP2_CANCEL)],
    [
      'resets the stream within the body',
      (stream) => {
        stream.respond({ ':status': 200 });
        stream.write('{"do', () => stream.destroy(new Error('no more')));
      },
    ],
    ['goes away', (stream) => stream.session?.goaway(constants.NGHTTP2_NO_ERROR, 0)],
    ['resets the connection', (stream) => stream.session?.socket.destroy()],
  ])('%s: the second attempt has the same key and succeeds', async (_name, misbehave) => {
    const keys: unknown[] = [];
    const http2 = createServer2().on('stream', (stream, headers) => {
      stream.on('error', () => {});
      keys.push(headers['idempotency-key']);
      if (keys.length === 1) misbehave(stream);
      else stream.respond({ ':status': 200 }, { endStream: true });
    });
    await new Promise<void>((resolve) => http2.listen(0, '127.0.0.1', resolve));
    const origin = `http://127.0.0.1:${(http2.address() as AddressInfo).port}`;
    const egress = new H2CClient(origin);
    try {
      const { attempts, idempotencyKey } = await clientFor(origin, { egress }).post('/', payment);
      expect([attempts, ...keys]).toEqual([2, `"${idempotencyKey}"`, `"${idempotencyKey}"`]);
    } finally {
      await egress.destroy();
      http2.close();
    }
  });
});

describe('a server that misbehaves always', () => {
  const always = (script: Script) => server.enqueue(script, script, script, script);

  test.each<[string, () => Script, string]>([
    ['resets', resetOnRequest, 'ERR_CLIENT_NETWORK'],
    ['is silent', silence, 'ERR_CLIENT_ATTEMPT_TIMEOUT'],
    ['drips', () => drip(20, { body: 'x'.repeat(9000) }), 'ERR_CLIENT_ATTEMPT_TIMEOUT'],
    ['sends 1xx without end', () => informationalFlood(1e9), 'ERR_CLIENT_ATTEMPT_TIMEOUT'],
    ['lies', () => lyingContentLength({ body: 'x' }, 9), 'ERR_CLIENT_NETWORK'],
  ])('%s: the call ends with its own error', async (_name, script, code) => {
    always(script());
    const attemptTimeoutMs = code === 'ERR_CLIENT_ATTEMPT_TIMEOUT' ? 60 : 2000;
    const error = await failure(
      clientFor(server.origin, { attemptTimeoutMs }).post('/payments', payment),
    );
    expect(error).toMatchObject({ code, attempts: 4, stopped: 'attempts_exhausted' });
    expect(error.idempotencyKey).toMatch(/^[0-9a-f-]{36}$/);
  });

  test('the deadline bounds all attempts together', async () => {
    server.enqueue(silence());
    const error = await failure(
      clientFor(server.origin).post('/payments', { ...payment, deadlineMs: 150 }),
    );
    expect(error.code).toBe('ERR_CLIENT_DEADLINE_EXCEEDED');
    expect(error.attempts).toBeLessThanOrEqual(1);
  });

  test('many 1xx before a good answer do no harm', async () => {
    server.enqueue(informationalFlood(500, good));
    const { body, attempts } = await clientFor(server.origin).get('/');
    expect([body, attempts]).toEqual([{ done: true }, 1]);
  });

  test('a body without end is cut off', async () => {
    server.enqueue(endlessBody());
    const error = await failure(
      clientFor(server.origin, { maxResponseBytes: 100_000 }).get('/endless'),
    );
    expect(error).toMatchObject({ code: 'ERR_CLIENT_RESPONSE_TOO_LARGE', attempts: 1 });
  });

  test('of an error without end the beginning is kept', async () => {
    server.enqueue(endlessBody({ status: 400, headers: { 'content-type': 'text/plain' } }));
    const error = await failure(clientFor(server.origin, { maxErrorBytes: 1000 }).get('/endless'));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', status: 400, bodyTruncated: true });
    expect(error.body).toBe('x'.repeat(1000));
  });

  test.each(['gzip', 'br'] as const)('a %s bomb does not go off', async (encoding) => {
    server.enqueue(decompressionBomb(200_000_000, encoding));
    const before = process.memoryUsage().arrayBuffers;
    const error = await failure(
      clientFor(server.origin, { maxResponseBytes: 1_000_000 }).get('/bomb'),
    );
    expect(error).toMatchObject({ code: 'ERR_CLIENT_RESPONSE_TOO_LARGE' });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50_000_000);
  });

  test.each(['gzip', 'br'] as const)('a %s bomb does not go off in fetch', async (encoding) => {
    server.enqueue(decompressionBomb(200_000_000, encoding));
    const response = await clientFor(server.origin, { maxResponseBytes: 1_000_000 }).fetch('/bomb');
    const before = process.memoryUsage().arrayBuffers;
    await expect(response.arrayBuffer()).rejects.toMatchObject({
      code: 'ERR_CLIENT_RESPONSE_TOO_LARGE',
    });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(50_000_000);
  });

  test('of a bomb in an error the beginning is kept', async () => {
    server.enqueue(decompressionBomb(200_000_000, 'gzip', { status: 403 }));
    const error = await failure(clientFor(server.origin, { maxErrorBytes: 1000 }).get('/bomb'));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', status: 403, bodyTruncated: true });
    expect(error.body).toHaveLength(1000);
  });

  test.each([
    ['gzip', 'this is no gzip'],
    ['gzip, br, gzip', 'x'],
    ['lzma', 'x'],
    ['__proto__', 'x'],
  ])('a body said to be %s is not read', async (coding, body) => {
    server.enqueue(respond({ headers: { 'content-encoding': coding }, body }));
    const error = await failure(clientFor(server.origin).get('/'));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_INVALID_RESPONSE', status: 200 });
  });

  test('JSON that is none is an error that does not quote it', async () => {
    server.enqueue(
      respond({ headers: { 'content-type': 'application/json' }, body: 'secret-in-the-body' }),
    );
    const error = await failure(clientFor(server.origin).get('/'));
    expect(error.code).toBe('ERR_CLIENT_INVALID_RESPONSE');
    expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain('secret');
  });
});

describe('a network that misbehaves', () => {
  let effects: Map<string, number>;
  let proxy: FaultProxy;
  const upstream = createServer((request, response) => {
    request.resume().on('end', () => {
      const key = String(request.headers['idempotency-key']);
      effects.set(key, (effects.get(key) ?? 0) + 1);
      response.writeHead(201, { 'content-type': 'application/json' }).end('{"done":true}');
    });
  });
  beforeAll(async () => {
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    proxy = await startFaultProxy({ port: (upstream.address() as AddressInfo).port });
  });
  afterEach(() => proxy.heal());
  afterAll(async () => {
    await proxy.stop();
    upstream.close();
    upstream.closeAllConnections();
  });
  const viaProxy = (options: Partial<ClientOptions> = {}): Client => {
    effects = new Map();
    return clientFor(`http://127.0.0.1:${proxy.port}`, options);
  };

  test('resets the answer: the work was done once under each of the same keys', async () => {
    const client = viaProxy();
    proxy.set('toClient', { resetAfterBytes: 20 });
    const call = failure(client.post('/payments', payment));
    expect(await call).toMatchObject({ code: 'ERR_CLIENT_NETWORK', attempts: 4 });
    // Four times the same key: a server that remembers it has done the work once.
    expect([...effects.values()]).toEqual([4]);
  });

  test('resets the request: nothing reaches the server until it heals', async () => {
    const client = viaProxy({ retry: { baseMs: 30, capMs: 60, jitter: 'none' } });
    proxy.set('toServer', { resetAfterBytes: 100 });
    const call = client.post('/payments', payment);
    setTimeout(() => void proxy.heal(), 40);
    const response = await call;
    expect(response.attempts).toBeGreaterThan(1);
    expect([...effects.values()]).toEqual([1]);
  });

  test('swallows everything: the attempt times out, the next one finds it healed', async () => {
    const client = viaProxy({ attemptTimeoutMs: 150 });
    proxy.set('toClient', { blackhole: true });
    setTimeout(() => void proxy.heal(), 100);
    const { status } = await client.post('/payments', payment);
    expect(status).toBe(201);
    expect(effects.size).toBe(1);
  });

  test('refuses connections: tried again', async () => {
    const client = viaProxy({ retry: { baseMs: 30, capMs: 60, jitter: 'none' } });
    proxy.refuse();
    setTimeout(() => void proxy.heal(), 40);
    expect((await client.get('/')).attempts).toBeGreaterThan(1);
  });

  test('is slow: an upload and its answer still arrive', async () => {
    const client = viaProxy();
    proxy.set('both', { latencyMs: 20, bytesPerSecond: 100_000 });
    expect((await client.post('/payments', payment)).attempts).toBe(1);
  });
});
