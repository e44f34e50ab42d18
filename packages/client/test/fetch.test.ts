import type { IncomingMessage, ServerResponse } from 'node:http';
import { inspect } from 'node:util';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { MockAgent } from 'undici';
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

  test('repeats no credentials that it finds in a URL', async () => {
    const client = clientFor('https://api.example.com');
    for (const url of ['https://u:hunter2@api.example.com/', 'https://u:hunter2@:bad/']) {
      for (const input of URL.canParse(url) ? [url, new URL(url)] : [url]) {
        const error: unknown = await client.fetch(input).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(TypeError);
        expect(inspect(error)).not.toContain('hunter2');
      }
    }
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
    const client = clientFor(origin, { maxRedirects: 5 });
    for (const url of ['/', other.origin]) {
      await expect(client.fetch(url)).rejects.toMatchObject({
        cause: { code: 'ERR_CLIENT_NOT_SENT' },
      });
    }
    expect(other.seen).toEqual([]);
  });

  test.each([undefined, 'follow', 'manual'] as const)(
    'a redirect is not followed unless the client was told to, redirect: %s or not',
    async (redirect) => {
      const { origin, seen } = await serve(json(302, { moved: true }, { location: '/b' }));
      const response = await clientFor(origin).fetch('/a', redirect && { redirect });
      expect([response.status, response.headers.get('location')]).toEqual([302, '/b']);
      expect(response.redirected).toBe(false);
      expect(await response.json()).toEqual({ moved: true });
      expect(seen.length).toBe(1);
    },
  );

  test("redirect: 'error' is an error, and 'manual' follows nothing, whatever the client was told", async () => {
    const { origin, seen } = await serve(json(302, {}, { location: '/b' }));
    for (const maxRedirects of [0, 5]) {
      const client = clientFor(origin, { maxRedirects });
      await expect(client.fetch('/a', { redirect: 'error' })).rejects.toThrow(TypeError);
      expect((await client.fetch('/a', { redirect: 'manual' })).status).toBe(302);
    }
    expect(seen.map(({ url }) => url)).toEqual(['/a', '/a', '/a', '/a']);
  });

  test('as many redirects are followed as the client was told to follow', async () => {
    const { origin, seen } = await serve(
      json(302, {}, { location: '/b' }),
      json(302, {}, { location: '/c' }),
      json(200, {}),
    );
    const response = await clientFor(origin, { maxRedirects: 2 }).fetch('/a');
    expect([response.status, response.redirected, response.url]).toEqual([
      200,
      true,
      `${origin}/c`,
    ]);
    const endless = await serve(json(302, {}, { location: '/again' }));
    await expect(clientFor(endless.origin, { maxRedirects: 2 }).fetch('/a')).rejects.toMatchObject({
      cause: { code: 'ERR_CLIENT_REDIRECT' },
    });
    expect([seen.length, endless.seen.length]).toEqual([3, 3]);
  });

  describe('bounds the response', () => {
    const readers = {
      text: (response: Response) => response.text(),
      'a stream': async (response: Response) => {
        let bytes = 0;
        for await (const chunk of response.body ?? []) bytes += chunk.length;
        return bytes;
      },
      'a clone': (response: Response) => response.clone().arrayBuffer(),
    };

    test.each(Object.entries(readers))('on the wire, read as %s', async (_name, read) => {
      const { origin } = await serve((_request, response) => {
        response.writeHead(200);
        const write = (): void => {
          while (!response.destroyed && response.write('x'.repeat(1000)));
        };
        response.on('drain', write);
        write();
      });
      const response = await clientFor(origin, { maxResponseBytes: 5000 }).fetch('/');
      await expect(read(response)).rejects.toMatchObject({
        cause: { code: 'ERR_CLIENT_RESPONSE_TOO_LARGE', status: 200 },
      });
    });

    test('on the wire of a dispatcher of your own, too', async () => {
      const client = createClient({
        origin: 'https://api.example.com',
        egress: new FakeDispatcher(() => ({ body: 'x'.repeat(5001), bodyAfterMs: 1 })),
        maxResponseBytes: 5000,
      });
      const response = await client.fetch('/');
      await expect(response.text()).rejects.toMatchObject({
        cause: { code: 'ERR_CLIENT_RESPONSE_TOO_LARGE' },
      });
    });

    test('of a MockAgent, which does not heed an abort', async () => {
      const agent = new MockAgent();
      agent.disableNetConnect();
      agent.get('https://api.example.com').intercept({ path: '/' }).reply(200, 'x'.repeat(5001));
      const options = { egress: agent, maxResponseBytes: 5000 };
      const client = createClient({ origin: 'https://api.example.com', ...options });
      const response = await client.fetch('/');
      await expect(response.text()).rejects.toMatchObject({
        cause: { code: 'ERR_CLIENT_RESPONSE_TOO_LARGE' },
      });
      await agent.close();
    });

    test.each(Object.entries(readers))('after decompression, read as %s', async (_name, read) => {
      const { origin } = await serve((_request, response) => {
        response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('x'.repeat(50_000)));
      });
      const response = await clientFor(origin, { maxResponseBytes: 49_999 }).fetch('/');
      await expect(read(response)).rejects.toMatchObject({
        code: 'ERR_CLIENT_RESPONSE_TOO_LARGE',
        status: 200,
      });
    });

    test('and leaves one that fits as fetch made it', async () => {
      const { origin } = await serve((_request, response) => {
        response.writeHead(203, 'Fine', { 'content-encoding': 'br', 'x-a': ['1', '2'] });
        response.end(brotliCompressSync('x'.repeat(50_000)));
      });
      const response = await clientFor(origin, { maxResponseBytes: 50_000 }).fetch('/a?b');
      for (const each of [response.clone(), response.clone().clone(), response]) {
        const { status, statusText, url, redirected, type, ok } = each;
        expect({ status, statusText, url, redirected, type, ok }).toEqual({
          status: 203,
          statusText: 'Fine',
          url: `${origin}/a?b`,
          redirected: false,
          type: 'basic',
          ok: true,
        });
        expect([each.headers.get('x-a'), each.headers.get('content-encoding')]).toEqual([
          '1, 2',
          'br',
        ]);
        expect(await each.text()).toBe('x'.repeat(50_000));
      }
    });

    test('whatever its status and its reason phrase', async () => {
      const { origin } = await serve((request) => {
        const body = gzipSync('odd');
        const head = `HTTP/1.1 999 Näh ✓\r\ncontent-encoding: gzip\r\ncontent-length: ${body.length}\r\n`;
        request.socket.end(Buffer.concat([Buffer.from(`${head}\r\n`), body]));
      });
      const response = await clientFor(origin).fetch('/');
      for (const each of [response.clone(), response]) {
        expect([each.status, each.statusText, each.ok]).toEqual([999, 'Näh ✓', false]);
        expect(await each.text()).toBe('odd');
      }
    });

    test('a coded answer without a body has none', async () => {
      const { origin } = await serve((_request, response) => {
        response.writeHead(204, { 'content-encoding': 'gzip' }).end();
      });
      expect((await clientFor(origin).fetch('/')).body).toBeNull();
    });
  });

  test('a redirected POST keeps its key, and a key of the caller is left as it is', async () => {
    const { origin, seen } = await serve(
      json(307, {}, { location: '/moved' }),
      json(201, {}),
      json(503, {}),
      json(201, {}),
    );
    const client = clientFor(origin, { maxRedirects: 1 });
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

  test.each([
    ['an abort', { signal: AbortSignal.timeout(20) }, 30_000, { name: 'TimeoutError' }],
    ['the deadline', {}, 20, { cause: { code: 'ERR_CLIENT_DEADLINE_EXCEEDED' } }],
  ])(
    '%s ends it while its body is still read, and stops that',
    async (_name, init, deadlineMs, as) => {
      const client = clientFor('http://127.0.0.1:1', { deadlineMs });
      let cancelled = false;
      const body = new ReadableStream({
        pull: () => new Promise(() => {}),
        cancel: () => {
          cancelled = true;
        },
      });
      const call = client.fetch('/', {
        method: 'POST',
        body,
        duplex: 'half',
        ...init,
      } as RequestInit);
      await expect(call).rejects.toMatchObject(as);
      expect(cancelled).toBe(true);
    },
  );

  test('the deadline is one for all redirects', async () => {
    const hop = (_request: IncomingMessage, response: ServerResponse): void => {
      setTimeout(() => response.writeHead(307, { location: '/again' }).end(), 60);
    };
    const { origin, seen } = await serve(hop);
    const call = clientFor(origin, { maxRedirects: 20, deadlineMs: 150 }).fetch('/');
    await expect(call).rejects.toMatchObject({ cause: { code: 'ERR_CLIENT_DEADLINE_EXCEEDED' } });
    const left = seen.map(({ headers }) => Number(headers['request-timeout-ms']));
    expect(left.length).toBeLessThanOrEqual(3);
    expect(left).toEqual(left.toSorted((a, b) => b - a));
    expect(left.at(-1)).toBeLessThanOrEqual(90);
  });

  test('an abort ends it at once', async () => {
    const { origin } = await serve(() => {});
    const controller = new AbortController();
    const call = clientFor(origin).fetch('/', { signal: controller.signal });
    setTimeout(() => controller.abort(), 20);
    await expect(call).rejects.toMatchObject({ name: 'AbortError' });
  });
});
