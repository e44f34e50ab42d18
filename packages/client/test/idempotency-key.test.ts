import fc from 'fast-check';
import { parseItem } from 'structured-headers';
import { MockAgent } from 'undici';
import { describe, expect, test } from 'vitest';
import { createClient, type IdempotencyOptions, idempotencyKey } from '../src/index.ts';
import { FakeDispatcher } from './fake-dispatcher.ts';

async function sent(key: string, idempotency: IdempotencyOptions = {}): Promise<string> {
  const dispatcher = new FakeDispatcher(() => ({}));
  const client = createClient({ origin: 'https://a.example', egress: dispatcher, idempotency });
  await client.post('/', { idempotencyKey: key });
  return dispatcher.requests[0]?.headers['idempotency-key'] ?? '';
}

const printable = fc.string({
  unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
  minLength: 1,
  maxLength: 255,
});

describe('Idempotency-Key', () => {
  test('is a structured-field String that another parser reads back', async () => {
    await fc.assert(
      fc.asyncProperty(printable, async (key) => {
        const [value, parameters] = parseItem(await sent(key));
        expect(value).toBe(key);
        expect(parameters.size).toBe(0);
      }),
    );
  });

  test.each([
    ['8e03978e-40d5-43dd-bc93-6894a57f9324', '"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
    ['a "quoted" key', '"a \\"quoted\\" key"'],
    ['back\\slash', '"back\\\\slash"'],
  ])('%s is written %s', async (key, expected) => {
    expect(await sent(key)).toBe(expected);
  });

  test('is written as it is for servers that want it so', async () => {
    expect(await sent('order-7', { format: 'raw' })).toBe('order-7');
    await expect(sent('order 7', { format: 'raw' })).rejects.toThrow(TypeError);
  });

  test.each(['', 'ä', 'a\nb', '\u0000', '\u007f', 'x'.repeat(256)])('%j is no key', async (key) => {
    await expect(sent(key)).rejects.toThrow(/idempotencyKey/);
  });

  test('is new for every call, a UUID', async () => {
    const dispatcher = new FakeDispatcher(() => ({}));
    const client = createClient({ origin: 'https://a.example', egress: dispatcher });
    const { idempotencyKey: first } = await client.post('/');
    const { idempotencyKey: second } = await client.patch('/');
    const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    expect(first).toMatch(uuid);
    expect(second).toMatch(uuid);
    expect(first).not.toBe(second);
    for (const method of ['GET', 'PUT', 'DELETE', 'HEAD', 'OPTIONS']) {
      expect((await client.request(method, '/')).idempotencyKey).toBeUndefined();
    }
  });

  test('that the caller wrote as a header is sent as it is, with every attempt', async () => {
    const dispatcher = new FakeDispatcher((index) => ({ status: index === 0 ? 503 : 200 }));
    const client = createClient({
      origin: 'https://a.example',
      egress: dispatcher,
      retry: { baseMs: 1, capMs: 1 },
    });
    const headers = { 'Idempotency-Key': 'order-7' };
    const { idempotencyKey: told, attempts } = await client.post('/', { headers });
    expect([told, attempts]).toEqual(['order-7', 2]);
    const keys = dispatcher.requests.map((request) => request.headers['idempotency-key']);
    expect(keys).toEqual(['order-7', 'order-7']);
  });

  test.each(['', ' ', 'a\r\nb', 'ä'])('a header %j is no key', async (value) => {
    const egress = new FakeDispatcher(() => ({}));
    const client = createClient({ origin: 'https://a.example', egress });
    const call = client.post('/', { headers: { 'idempotency-key': value } });
    await expect(call).rejects.toThrow(TypeError);
    expect(egress.requests).toEqual([]);
  });

  test('is given once, and never for all calls of a client', async () => {
    const egress = new FakeDispatcher(() => ({}));
    const client = createClient({ origin: 'https://a.example', egress });
    const headers = { 'idempotency-key': 'a' };
    await expect(client.post('/', { headers, idempotencyKey: 'b' })).rejects.toThrow(TypeError);
    expect(() => createClient({ origin: 'https://a.example', headers })).toThrow(TypeError);
  });

  test.each([
    [{ format: 'quoted' }, /format/],
    [{ methods: 'POST' }, /methods/],
    [{ keyLifetimeMs: 0 }, /keyLifetimeMs/],
  ])('refuses %o at construction', (idempotency, message) => {
    expect(() =>
      createClient({
        origin: 'https://a.example',
        idempotency: idempotency as unknown as IdempotencyOptions,
      }),
    ).toThrow(message);
  });
});

describe('idempotencyKey() on an agent of its own', () => {
  test.each([
    ['an object', { accept: 'x' }],
    ['an array', ['accept', 'x']],
    ['nothing', undefined],
    ['an iterable', new Map([['accept', 'x']])],
  ])('adds a key to headers that are %s', async (_name, headers) => {
    const agent = new MockAgent();
    agent.disableNetConnect();
    const seen: unknown[] = [];
    agent
      .get('https://a.example')
      .intercept({ path: '/', method: 'POST' })
      .reply((options) => {
        seen.push(options.headers);
        return { statusCode: 200 };
      });
    const composed = agent.compose(idempotencyKey());
    await composed.request({
      origin: 'https://a.example',
      path: '/',
      method: 'POST',
      ...(headers === undefined ? {} : { headers: headers as Record<string, string> }),
    });
    expect(JSON.stringify(seen)).toMatch(/idempotency-key.*\\"[0-9a-f-]{36}\\"/);
    await agent.close();
  });

  test('leaves other methods, and a key that is there, alone', () => {
    const headers: unknown[] = [];
    const dispatch = idempotencyKey()((options) => {
      headers.push(options.headers);
      return true;
    });
    const request = (method: 'GET' | 'POST', given: Record<string, string>): void =>
      void dispatch({ origin: 'https://a.example', path: '/', method, headers: given }, {});
    request('GET', {});
    request('POST', { 'Idempotency-KEY': '"mine"' });
    expect(headers).toEqual([{}, { 'Idempotency-KEY': '"mine"' }]);
  });
});
