import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { apiKey, type ClientOptions, createClient } from '../src/index.ts';
import { FakeDispatcher } from './fake-dispatcher.ts';
import { json, serve } from './server.ts';

function clientFor(origin: string, options: Partial<ClientOptions> = {}) {
  const client = createClient({
    origin,
    egress: { allow: ['http://127.0.0.1:*'] },
    retry: { baseMs: 1, capMs: 2 },
    interceptors: [apiKey('sk-live-secret')],
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
}

describe('client.fetch', () => {
  test('sends by the same rules: key, identity, retries', async () => {
    const { origin, seen } = await serve(json(503, {}), json(201, { id: 1 }));
    const client = clientFor(origin);
    const response = await client.fetch(`${origin}/payments?x=1`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"amount":5}',
    });
    expect([response.status, response.ok]).toEqual([201, true]);
    expect(await response.json()).toEqual({ id: 1 });
    expect(seen.length).toBe(2);
    for (const { url, headers, body } of seen) {
      expect([url, body]).toEqual(['/payments?x=1', '{"amount":5}']);
      expect(headers).toMatchObject({
        authorization: 'ApiKey sk-live-secret',
        'content-type': 'application/json',
      });
    }
    expect(seen[0]?.headers['idempotency-key']).toMatch(/^"[0-9a-f-]{36}"$/);
    expect(seen[1]?.headers['idempotency-key']).toBe(seen[0]?.headers['idempotency-key']);
  });

  test('an error that is not tried again is a response, as fetch has it', async () => {
    const { origin } = await serve(json(404, { title: 'no such thing' }));
    const response = await clientFor(origin).fetch('/x');
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({ title: 'no such thing' });
  });

  test('nor is the last of several errors', async () => {
    const { origin, seen } = await serve(json(503, { why: 'down' }));
    const response = await clientFor(origin, {
      retry: { maxAttempts: 2, baseMs: 1, capMs: 1 },
    }).fetch('/');
    expect([response.status, seen.length]).toEqual([503, 2]);
    expect(await response.json()).toEqual({ why: 'down' });
  });

  test('streams the response as it arrives', async () => {
    let finish = (): void => {};
    const { origin } = await serve((_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
      finish = () => response.end('data: 2\n\n');
    });
    const response = await clientFor(origin).fetch('/events');
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const text = async (): Promise<string> => new TextDecoder().decode((await reader.read()).value);
    expect(await text()).toBe('data: 1\n\n');
    finish();
    expect(await text()).toBe('data: 2\n\n');
  });

  test('the deadline ends with the headers', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const client = createClient({
      origin: 'https://api.example.com',
      egress: new FakeDispatcher(() => ({ body: 'late', afterMs: 900, bodyAfterMs: 60_000 })),
      deadlineMs: 1000,
    });
    const call = client.fetch('/events');
    await vi.advanceTimersByTimeAsync(900);
    const text = (await call).text();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(await text).toBe('late');
  });

  test('undoes compression, and takes what the built-in fetch takes', async () => {
    const { origin, seen } = await serve((_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('hello'));
    });
    const client = clientFor(origin);
    const form = new FormData();
    form.set('file', new Blob(['content']), 'a.txt');
    const first = await client.fetch(new URL(origin), { method: 'POST', body: form });
    expect(await first.text()).toBe('hello');
    expect(seen[0]?.headers['content-type']).toMatch(/^multipart\/form-data; boundary=/);
    expect(seen[0]?.body).toContain('content');
    await client.fetch(new Request(`${origin}/r`, { method: 'PUT', body: 'x' }));
    expect(seen[1]).toMatchObject({ method: 'PUT', url: '/r', body: 'x' });
  });

  test('reaches no other origin, by redirect neither', async () => {
    const other = await serve(json(200, {}));
    const { origin } = await serve(json(302, {}, { location: other.origin }));
    const client = clientFor(origin);
    for (const url of ['/', other.origin]) {
      await expect(client.fetch(url)).rejects.toMatchObject({
        cause: { code: 'ERR_CLIENT_NOT_SENT' },
      });
    }
    expect(other.seen).toEqual([]);
  });

  test('a redirected POST keeps its key, and a key of the caller is left as it is', async () => {
    const { origin, seen } = await serve(
      json(307, {}, { location: '/moved' }),
      json(201, {}),
      json(503, {}),
      json(201, {}),
    );
    const client = clientFor(origin);
    await client.fetch('/payments', { method: 'POST', body: '{}' });
    await client.fetch('/payments', {
      method: 'POST',
      body: '{}',
      headers: { 'Idempotency-Key': 'mine' },
    });
    const keys = seen.map(({ headers }) => headers['idempotency-key']);
    expect(keys[0]).toMatch(/^"[0-9a-f-]{36}"$/);
    expect(keys).toEqual([keys[0], keys[0], 'mine', 'mine']);
  });

  test('fails as fetch does, with the reason as cause', async () => {
    const { origin } = await serve((request) => request.socket.destroy());
    const error: unknown = await clientFor(origin)
      .fetch('/')
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TypeError);
    expect(error).toMatchObject({ cause: { code: 'ERR_CLIENT_NETWORK', attempts: 4 } });
  });

  test('an abort ends it at once', async () => {
    const { origin } = await serve(() => {});
    const controller = new AbortController();
    const call = clientFor(origin).fetch('/', { signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
  });
});
