import { randomBytes } from 'node:crypto';
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ClientError, createClient } from '../src/index.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';
import { serve } from './server.ts';

const CODINGS: Readonly<Record<string, (text: string | Buffer) => Buffer>> = {
  gzip: gzipSync,
  'x-gzip': gzipSync,
  deflate: deflateSync,
  br: (text) => brotliCompressSync(text, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  zstd: zstdCompressSync,
  'gzip, br': (text) => brotliCompressSync(gzipSync(text)),
};

async function refused(reply: Reply, maxErrorBytes: number): Promise<ClientError> {
  const client = createClient({
    origin: 'https://api.example.com',
    egress: new FakeDispatcher(() => ({ status: 400, ...reply })),
    maxErrorBytes,
  });
  const error: unknown = await client.get('/').catch((reason: unknown) => reason);
  if (!(error instanceof ClientError)) throw error;
  return error;
}

const textHeaders = { 'content-type': 'text/plain' };

describe('the body of an error', () => {
  // zstd gives nothing before the end of a block, which may be 128 KiB; it is not asked for.
  test.each(Object.entries(CODINGS).filter(([coding]) => coding !== 'zstd'))(
    'that is longer than is kept leaves its beginning, coded as %s',
    async (coding, encode) => {
      // Text that hardly gets smaller: it is longer than is kept on the wire already.
      const text = randomBytes(60_000).toString('base64');
      const headers = { ...textHeaders, 'content-encoding': coding };
      const error = await refused({ headers, body: encode(text) }, 10_000);
      expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', bodyTruncated: true });
      const body = error.body as string;
      expect(body.length).toBeGreaterThan(5000);
      expect(body.length).toBeLessThanOrEqual(10_000);
      expect(text.startsWith(body)).toBe(true);
    },
  );

  test.each(Object.entries(CODINGS))(
    'that becomes longer than is kept when it is decoded leaves its beginning: %s',
    async (coding, encode) => {
      const text = 'how it went wrong, in many words. '.repeat(3000);
      const headers = { 'content-type': 'application/problem+json', 'content-encoding': coding };
      const error = await refused({ headers, body: encode(text) }, 10_000);
      expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', bodyTruncated: true });
      expect(error.body).toBe(text.slice(0, 10_000));
    },
  );

  test.each(Object.entries(CODINGS))('that fits is whole: %s', async (coding, encode) => {
    const title = 'x'.repeat(5000);
    const headers = { 'content-type': 'application/problem+json', 'content-encoding': coding };
    const error = await refused({ headers, body: encode(JSON.stringify({ title })) }, 10_000);
    expect(error).toMatchObject({ code: 'ERR_CLIENT_PROBLEM', problem: { title } });
    expect(error.bodyTruncated).toBeUndefined();
  });

  test.each([
    ['lzma', 'x'],
    ['gzip', 'this is no gzip'],
    ['gzip, gzip, gzip', 'x'],
  ])('that cannot be decoded leaves the error: %s', async (coding, body) => {
    const headers = { ...textHeaders, 'content-encoding': coding };
    for (const maxErrorBytes of [1, 10_000]) {
      const error = await refused({ headers, body }, maxErrorBytes);
      expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', status: 400 });
      expect(error.body).toBeUndefined();
    }
  });

  test.each(['application/json', 'application/problem+json'])(
    'that is not the %s it is called is kept as text',
    async (type) => {
      for (const [coding, encode] of [
        ['identity', Buffer.from],
        ['gzip', gzipSync],
      ] as const) {
        const headers = { 'content-type': type, 'content-encoding': coding };
        const error = await refused({ headers, body: encode('upstream is down') }, 10_000);
        expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', body: 'upstream is down' });
      }
    },
  );

  test.each([{}, { egress: { maxResponseBytes: 1000 } }])(
    'has its own limit: it may be larger than a response, and is tried again (%j)',
    async ({ egress = {} }) => {
      const { origin, seen } = await serve(
        (_request, response) => response.writeHead(503).end('x'.repeat(5000)),
        (_request, response) => response.writeHead(503).end('x'.repeat(100_000)),
      );
      const client = createClient({
        origin,
        egress: { allow: ['http://127.0.0.1:*'], ...egress },
        maxResponseBytes: 1000,
        retry: { maxAttempts: 2, baseMs: 1 },
      });
      onTestFinished(() => client.close());
      const error = await client.get('/').catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ERR_CLIENT_STATUS', status: 503, bodyTruncated: true });
      expect(seen.length).toBe(2);
    },
  );

  test('is never longer than is kept, whatever comes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('identity', ...Object.keys(CODINGS)),
        fc.uint8Array({ maxLength: 3000 }),
        fc.boolean(),
        fc.integer({ min: 1, max: 2000 }),
        async (coding, bytes, encoded, maxErrorBytes) => {
          const encode = CODINGS[coding];
          const body = encode && encoded ? encode(Buffer.from(bytes)) : Buffer.from(bytes);
          const headers = { 'content-encoding': coding };
          const error = await refused({ headers, body }, maxErrorBytes);
          const kept = error.body === undefined ? 0 : (error.body as string | Buffer).length;
          expect(kept).toBeLessThanOrEqual(maxErrorBytes);
        },
      ),
    );
  });
});
