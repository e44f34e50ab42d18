import { inspect } from 'node:util';
import type { Dispatcher } from 'undici';
import { describe, expect, test } from 'vitest';
import { type ApiKeyOptions, type ApiKeySource, apiKey, createClient } from '../src/index.ts';
import { FakeDispatcher } from './fake-dispatcher.ts';

const KEY = 'sk-live-0123456789';

async function presented(
  interceptor: Dispatcher.DispatcherComposeInterceptor,
  headers: Record<string, string> = {},
): Promise<Record<string, string>> {
  const dispatcher = new FakeDispatcher(() => ({}));
  const client = createClient({
    origin: 'https://a.example',
    egress: dispatcher,
    interceptors: [interceptor],
  });
  await client.get('/', { headers });
  return { ...dispatcher.requests[0]?.headers };
}

describe('apiKey', () => {
  test.each([
    [apiKey(KEY), 'authorization', `ApiKey ${KEY}`],
    [apiKey(KEY, { scheme: 'Bearer' }), 'authorization', `Bearer ${KEY}`],
    [apiKey(KEY, { header: 'X-API-Key' }), 'x-api-key', KEY],
    [apiKey(() => KEY), 'authorization', `ApiKey ${KEY}`],
    [apiKey(async () => KEY), 'authorization', `ApiKey ${KEY}`],
  ])('%o sends %s: %s', async (interceptor, name, value) => {
    expect((await presented(interceptor))[name]).toBe(value);
  });

  test('replaces what was there', async () => {
    const headers = await presented(apiKey(KEY), { Authorization: 'Basic xyz' });
    expect(Object.values(headers).filter((value) => value === 'Basic xyz')).toEqual([]);
  });

  test('a provider that fails fails the call, which is not sent', async () => {
    const dispatcher = new FakeDispatcher(() => ({}));
    const client = createClient({
      origin: 'https://a.example',
      egress: dispatcher,
      interceptors: [apiKey(() => Promise.reject(new Error('vault is sealed')))],
    });
    await expect(client.get('/')).rejects.toMatchObject({
      code: 'ERR_CLIENT_NOT_SENT',
      cause: { message: 'vault is sealed' },
    });
    expect(dispatcher.requests).toEqual([]);
  });

  test('what a provider throws is not quoted', async () => {
    const client = createClient({
      origin: 'https://api.example.com',
      egress: new FakeDispatcher(() => ({})),
      interceptors: [apiKey(() => Promise.reject({ vaultToken: 'hunter2' }))],
    });
    const error = await client.get('/').catch((reason: unknown) => reason);
    expect((error as Error).message).not.toContain('hunter2');
    expect(error).toMatchObject({
      code: 'ERR_CLIENT_NOT_SENT',
      cause: { cause: { vaultToken: 'hunter2' } },
    });
  });

  test('a provider that never answers is bounded by the attempt timeout', async () => {
    const client = createClient({
      origin: 'https://a.example',
      egress: new FakeDispatcher(() => ({})),
      interceptors: [apiKey(() => new Promise<string>(() => {}))],
      attemptTimeoutMs: 20,
      retry: false,
    });
    await expect(client.get('/')).rejects.toMatchObject({ code: 'ERR_CLIENT_ATTEMPT_TIMEOUT' });
  });

  test.each(['', 'short', 'with space 123', 'sk-live-\n123456', undefined, 7])(
    'refuses %j as a key, and does not repeat it',
    async (key) => {
      const source = key as unknown as ApiKeySource;
      expect(() => apiKey(source)).toThrow(TypeError);
      if (typeof key !== 'string' || key === '') return;
      const error: unknown = await presented(apiKey(() => key)).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ERR_CLIENT_NOT_SENT' });
      expect(inspect(error)).not.toContain(key);
    },
  );

  test.each([
    { scheme: 'Api Key' },
    { header: 'x api' },
    { scheme: '' },
    { scheme: null as unknown as string },
    { header: null as unknown as string },
    { headers: 'x-api-key' } as ApiKeyOptions,
  ])('refuses %o at construction', (options) => {
    expect(() => apiKey(KEY, options)).toThrow(TypeError);
  });
});
