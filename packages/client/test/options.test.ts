import { inspect } from 'node:util';
import type { Dispatcher } from 'undici';
import { describe, expect, test } from 'vitest';
import {
  apiKey,
  ClientError,
  type ClientOptions,
  createClient,
  idempotencyKey,
  type RequestOptions,
  type StandardSchema,
} from '../src/index.ts';
import { FakeDispatcher, type Reply } from './fake-dispatcher.ts';

const origin = 'https://api.example.com';

function setUp(reply: Reply = {}, options: Partial<ClientOptions> = {}) {
  const dispatcher = new FakeDispatcher(() => reply);
  return { dispatcher, client: createClient({ origin, egress: dispatcher, ...options }) };
}

describe('createClient', () => {
  test.each([
    [{ origin: 'api.example.com' }, /origin/],
    [{ origin: 'https://api.example.com/v1' }, /origin/],
    [{ origin: 'https://user:secret@api.example.com' }, /origin/],
    [{ origin: 'ftp://api.example.com' }, /origin/],
    [{ deadlineMs: 0 }, /deadlineMs/],
    [{ deadlineMs: 2 ** 31 }, /deadlineMs/],
    [{ deadlineMs: Infinity }, /deadlineMs/],
    [{ attemptTimeoutMs: -1 }, /attemptTimeoutMs/],
    [{ retry: { maxAttempts: 0 } }, /maxAttempts/],
    [{ retry: { baseMs: -1 } }, /baseMs/],
    [{ budget: { ratio: 2 } }, /ratio/],
    [{ maxResponseBytes: 1.5 }, /maxResponseBytes/],
    [{ maxErrorBytes: 0 }, /maxErrorBytes/],
    [{ maxRedirects: 21 }, /maxRedirects/],
    [{ maxRedirects: Number.NaN }, /maxRedirects/],
    [{ hedge: { afterMs: 0 } }, /hedge/],
    [{ hedge: {} }, /hedge/],
    [{ hedge: false }, /hedge/],
    [{ hedge: null }, /hedge/],
    [{ retry: 0 }, /retry/],
    [{ budget: null }, /budget/],
    [{ budget: { tryWithdraw: () => true, deposit() {}, balance: 1 } }, /budget.*succeeded/],
    [{ breaker: null }, /breaker/],
    [{ breaker: true }, /breaker/],
    [{ concurrency: null }, /concurrency/],
    [{ concurrency: 10 }, /concurrency/],
    [{ idempotency: 'raw' }, /idempotency/],
    [{ headers: new Headers({ 'x-a': 'b' }) }, /headers/],
    [{ headers: null }, /headers/],
    [{ interceptors: 'x' }, /interceptors/],
    [{ interceptors: ['x'] }, /interceptors/],
    [{ interceptors: [apiKey] }, /interceptors/],
    [{ interceptors: [idempotencyKey] }, /interceptors/],
    [{ interceptors: [async () => {}] }, /interceptors/],
    [{ egress: { allow: 'x' } }, /allow/],
    [{ now: 5 }, /now/],
    [{ journal: {} }, /journal/],
    [{ journal: null }, /journal/],
    [{ journal: { begin: async () => {}, close: async () => {} } }, /journal/],
    [{ deadlineHeader: 'a b' }, /deadlineHeader/],
    [{ deadlineHeader: '' }, /deadlineHeader/],
    [{ headers: { 'x-a': 'a\r\nb' } }, /headers.*x-a/],
    [{ deadlineMS: 5 }, /^deadlineMS: there is no such option$/],
    [{ retry: { maxAttemps: 1 } }, /^maxAttemps: there is no such option$/],
    [{ budget: { ratios: 1 } }, /^ratios: there is no such option$/],
    [{ breaker: { probe: 1 } }, /^breaker\.probe: there is no such option$/],
    [{ concurrency: { max: 1 } }, /^concurrency\.max: there is no such option$/],
    [{ hedge: { afterMs: 1, after: 1 } }, /^hedge\.after: there is no such option$/],
    [{ idempotency: { method: [] } }, /^idempotency\.method: there is no such option$/],
    [{ egress: { alow: [] } }, /^alow: there is no such option$/],
  ])('refuses %o', (options, message) => {
    expect(() => createClient({ origin, ...options } as unknown as ClientOptions)).toThrow(message);
  });
});

describe('a call', () => {
  test.each(['', 'x', '//evil.example', '/\\evil.example', 'https://evil.example/', '/x#y'])(
    'refuses the path %j',
    async (path) => {
      const { client, dispatcher } = setUp();
      await expect(client.get(path)).rejects.toThrow(TypeError);
      expect(dispatcher.requests).toEqual([]);
    },
  );

  test.each<[RequestOptions, RegExp]>([
    [{ json: {}, body: 'x' }, /both/],
    [{ json: () => {} }, /JSON/],
    [{ body: 7 as unknown as string }, /body/],
    [{ deadlineMs: -1 }, /deadlineMs/],
    [{ as: 'jsn' as 'json' }, /as must be/],
    [{ schema: {} as StandardSchema }, /schema/],
    [{ schema: null as unknown as StandardSchema }, /schema/],
    [{ signal: new AbortController() as unknown as AbortSignal }, /signal/],
    [{ idempotencyKey: null as unknown as string }, /idempotencyKey/],
    [{ headers: new Headers({ 'idempotency-key': 'k' }) as never }, /headers/],
    [{ headers: new Map([['idempotency-key', 'k']]) as never }, /headers/],
    [{ query: new Map([['id', '7']]) as never }, /query/],
    [{ query: 'id=7' as never }, /query/],
    [{ idempotencykey: 'k' } as never, /idempotencykey: there is no such option$/],
  ])('refuses %o before anything is sent', async (options, message) => {
    const { client, dispatcher } = setUp();
    const error: unknown = await client.post('/', options).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(TypeError);
    expect(String(error)).toMatch(message);
    expect(dispatcher.requests).toEqual([]);
  });

  test.each<[RequestOptions, string | undefined, string]>([
    [{ json: { a: 1 } }, 'application/json', '{"a":1}'],
    [{ json: null }, 'application/json', 'null'],
    [{ body: 'text' }, 'text/plain;charset=UTF-8', 'text'],
    [{ body: Buffer.from('bytes') }, 'application/octet-stream', 'bytes'],
    [
      { body: new URLSearchParams({ a: 'b c' }) },
      'application/x-www-form-urlencoded;charset=UTF-8',
      'a=b+c',
    ],
    [{ body: 'x', headers: { 'Content-Type': 'text/csv' } }, 'text/csv', 'x'],
  ])('sends %o as %s', async (options, type, body) => {
    const { client, dispatcher } = setUp();
    await client.post('/', options);
    const [request] = dispatcher.requests;
    expect(request?.headers['content-type']).toBe(type);
    expect(String(request?.options.body as string | Buffer)).toBe(body);
  });

  test.each<[Reply, RequestOptions, unknown]>([
    [{ body: '{"a":1}', headers: { 'content-type': 'application/json' } }, {}, { a: 1 }],
    [{ body: '\uFEFF[1]', headers: { 'content-type': 'application/json' } }, {}, [1]],
    [{ body: '[1]', headers: { 'content-type': 'application/hal+json; x=y' } }, {}, [1]],
    [{ body: 'ä', headers: { 'content-type': 'text/html' } }, {}, 'ä'],
    [{ body: 'x', headers: { 'content-type': 'image/png' } }, {}, Buffer.from('x')],
    [{ body: 'x' }, {}, Buffer.from('x')],
    [{ body: '{"a":1}' }, { as: 'json' }, { a: 1 }],
    [{ body: '{}', headers: { 'content-type': 'application/json' } }, { as: 'text' }, '{}'],
    [
      { body: '{}', headers: { 'content-type': 'application/json' } },
      { as: 'bytes' },
      Buffer.from('{}'),
    ],
    [{ status: 204 }, {}, undefined],
    [{ headers: { 'content-type': 'application/json' } }, {}, undefined],
  ])('reads %o with %o', async (reply, options, expected) => {
    expect((await setUp(reply).client.get('/', options)).body).toEqual(expected);
  });

  test('interceptors see the request in the order in which they are given', async () => {
    const order: string[] = [];
    const pass =
      (name: string): NonNullable<ClientOptions['interceptors']>[number] =>
      (dispatch) =>
        function note(request, handler) {
          order.push(name);
          return dispatch(request, handler);
        };
    const { client } = setUp({}, { interceptors: [pass('identity'), pass('pacing')] });
    await client.get('/');
    expect(order).toEqual(['identity', 'pacing']);
  });

  test('an interceptor that throws fails the call', async () => {
    const { client } = setUp(
      {},
      {
        interceptors: [
          () =>
            function refuse(_request, _handler) {
              throw new Error('no');
            },
        ],
      },
    );
    await expect(client.get('/')).rejects.toMatchObject({ code: 'ERR_CLIENT_NOT_SENT' });
  });

  test.each<[string, (handler: Dispatcher.DispatchHandler) => unknown]>([
    [
      'reports a failure without a reason',
      (handler) => {
        const nobody = null as unknown as Dispatcher.DispatchController;
        handler.onResponseError?.(nobody, undefined as unknown as Error);
        return true;
      },
    ],
    // oxlint-disable-next-line typescript/prefer-promise-reject-errors
    ['is asynchronous and rejects with undefined', () => Promise.reject(undefined)],
    ['is asynchronous and rejects', () => Promise.reject(new Error('no'))],
  ])('an interceptor that %s fails the call, and nothing else', async (_, fail) => {
    const interceptor = (() =>
      function refuse(_request: unknown, handler: Dispatcher.DispatchHandler) {
        return fail(handler);
      }) as Dispatcher.DispatcherComposeInterceptor;
    const { client } = setUp({}, { interceptors: [interceptor] });
    await expect(client.get('/', { deadlineMs: 1000 })).rejects.toMatchObject({
      code: 'ERR_CLIENT_NOT_SENT',
      attempts: 1,
      stopped: 'final',
    });
  });

  test("a 1xx, and an interceptor's second send, leave nothing of the first", async () => {
    const { client } = setUp(
      { body: 'once', headers: { 'content-type': 'text/plain' } },
      {
        interceptors: [
          (dispatch) =>
            function twice(request, handler) {
              handler.onRequestStart?.(
                {
                  abort() {},
                  pause() {},
                  resume() {},
                  aborted: false,
                  paused: false,
                  reason: null,
                },
                null,
              );
              return dispatch(request, handler);
            },
        ],
      },
    );
    expect((await client.get('/')).body).toBe('once');
  });
});

describe('ClientError', () => {
  test('keeps headers and body out of logs, and still has them', async () => {
    const { client } = setUp({
      status: 422,
      headers: { 'content-type': 'application/problem+json', 'set-cookie': 'sid=hunter2' },
      body: JSON.stringify({ title: 'Key reused', secret: 'hunter2' }),
    });
    const error: unknown = await client.post('/', { json: { pin: 'hunter2' } }).catch((e) => e);
    if (!(error instanceof ClientError)) throw error;
    expect(error.problem?.['secret']).toBe('hunter2');
    expect(error.headers?.['set-cookie']).toBe('sid=hunter2');
    expect(`${inspect(error)}${JSON.stringify(error)}${error.stack}`).not.toContain('hunter2');
    expect(error).toMatchObject({ code: 'ERR_CLIENT_PROBLEM', status: 422, attempts: 1 });
  });

  test('a problem that is no object is no problem', async () => {
    const { client } = setUp({
      status: 400,
      headers: { 'content-type': 'application/problem+json' },
      body: '[1]',
    });
    await expect(client.get('/')).rejects.toMatchObject({ code: 'ERR_CLIENT_STATUS', body: [1] });
  });
});
