import { gzipSync } from 'node:zlib';
import { MockAgent } from 'undici';
import { describe, expect, expectTypeOf, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import {
  apiKey,
  ClientError,
  type ClientOptions,
  createClient,
  type RequestBody,
} from '../src/index.ts';
import { json, serve } from './server.ts';

function clientFor(origin: string, options: Partial<ClientOptions> = {}) {
  const client = createClient({
    origin,
    egress: { allow: ['http://127.0.0.1:*'] },
    retry: { baseMs: 1, capMs: 2 },
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
}

async function failure(promise: Promise<unknown>): Promise<ClientError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ClientError);
  return error as ClientError;
}

describe('createClient', () => {
  test('sends JSON and answers with the parsed body', async () => {
    const { origin, seen } = await serve(json(201, { id: 7 }));
    const response = await clientFor(origin).post('/payments?x=1', {
      json: { amount: 5 },
      query: { y: 'a b' },
    });
    expect(response).toMatchObject({ status: 201, body: { id: 7 }, attempts: 1, replayed: false });
    expect(seen[0]).toMatchObject({
      method: 'POST',
      url: '/payments?x=1&y=a+b',
      body: '{"amount":5}',
    });
    expect(seen[0]?.headers).toMatchObject({
      'content-type': 'application/json',
      'idempotency-key': `"${response.idempotencyKey}"`,
      'x-request-id': response.requestId,
      traceparent: expect.stringMatching(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/) as string,
      'request-timeout-ms': expect.stringMatching(/^(30000|29\d{3})$/) as string,
    });
  });

  test('tries again with the same key until it succeeds, and sees the replay', async () => {
    const { origin, seen } = await serve(
      json(503, {}),
      (request) => request.socket.destroy(),
      json(201, { id: 1 }, { 'idempotency-replayed': 'true' }),
    );
    const response = await clientFor(origin).post('/payments', { json: {} });
    expect(response).toMatchObject({ attempts: 3, replayed: true });
    const keys = seen.map(({ headers }) => headers['idempotency-key']);
    expect(new Set(keys).size).toBe(1);
    expect(new Set(seen.map(({ headers }) => headers['x-request-id'])).size).toBe(1);
  });

  test('a problem document becomes a typed error', async () => {
    const { origin } = await serve(
      json(
        403,
        { title: 'Forbidden', detail: 'no', type: 'about:blank' },
        {
          'content-type': 'application/problem+json',
        },
      ),
    );
    const error = await failure(clientFor(origin).get('/x'));
    expect(error).toMatchObject({
      code: 'ERR_CLIENT_PROBLEM',
      status: 403,
      attempts: 1,
      stopped: 'final',
      message: 'the server answered 403: Forbidden',
    });
    expect(error.problem).toEqual({ title: 'Forbidden', detail: 'no', type: 'about:blank' });
    expect(JSON.stringify(error)).not.toContain('detail');
  });

  test('a schema types and checks the result', async () => {
    const { origin } = await serve(json(200, { id: '7' }), json(200, { id: 7 }));
    const client = clientFor(origin);
    const schema = z.object({ id: z.string() });
    const { body } = await client.get('/x', { schema });
    expectTypeOf(body).toEqualTypeOf<{ id: string }>();
    expect(body.id).toBe('7');
    const error = await failure(client.get('/x', { schema }));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_SCHEMA', issues: [{ path: ['id'] }] });
  });

  test('a schema that throws is an error of the call, which has its key', async () => {
    const { origin } = await serve(json(201, { id: 7 }));
    const bug = new Error('a bug in the schema');
    const schema = z.unknown().refine(() => {
      throw bug;
    });
    const error = await failure(clientFor(origin).post('/x', { schema }));
    expect(error).toMatchObject({
      code: 'ERR_CLIENT_SCHEMA',
      status: 201,
      attempts: 1,
      cause: bug,
    });
    expect(error.idempotencyKey).toMatch(/^[0-9a-f-]{36}$/);
    expect(error.body).toEqual({ id: 7 });
  });

  test('so is one that answers nothing', async () => {
    const { origin } = await serve(json(201, { id: 7 }));
    const validate = (): never => undefined as never;
    const schema = { '~standard': { version: 1, vendor: 'x', validate } } as const;
    const error = await failure(clientFor(origin).post('/x', { schema }));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_SCHEMA', status: 201, body: { id: 7 } });
  });

  test('undoes compression', async () => {
    const { origin } = await serve((_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip', 'content-type': 'text/plain' });
      response.end(gzipSync('hello'));
    });
    expect((await clientFor(origin).get('/')).body).toBe('hello');
  });

  test('presents an API key with every attempt', async () => {
    const { origin, seen } = await serve(json(503, {}), json(200, {}));
    let calls = 0;
    const client = clientFor(origin, {
      interceptors: [
        apiKey(async () => {
          calls += 1;
          return `sk-live-${calls}`;
        }),
      ],
    });
    await client.get('/');
    expect(seen.map(({ headers }) => headers['authorization'])).toEqual([
      'ApiKey sk-live-1',
      'ApiKey sk-live-2',
    ]);
  });

  test('works with MockAgent', async () => {
    const agent = new MockAgent();
    agent.disableNetConnect();
    onTestFinished(() => agent.close());
    agent
      .get('https://api.example.com')
      .intercept({ path: '/orders', method: 'POST' })
      .reply(201, { ok: true }, { headers: { 'content-type': 'application/json' } });
    const client = createClient({ origin: 'https://api.example.com', egress: agent });
    const { body, status } = await client.post('/orders', { json: {} });
    expect([status, body]).toEqual([201, { ok: true }]);
  });

  test('what egress refuses is never tried again', async () => {
    const client = clientFor('http://127.0.0.1:9', { egress: {} });
    const error = await failure(client.get('/'));
    expect(error).toMatchObject({
      code: 'ERR_CLIENT_NOT_SENT',
      attempts: 1,
      cause: { code: 'ERR_EGRESS_DENIED' },
    });
  });

  test('an abort ends it at once', async () => {
    const { origin } = await serve(() => {});
    const controller = new AbortController();
    const call = failure(clientFor(origin).get('/', { signal: controller.signal }));
    controller.abort(new Error('enough'));
    expect(await call).toMatchObject({ code: 'ERR_CLIENT_ABORTED', cause: { message: 'enough' } });
  });

  test('ends when the deadline has passed', async () => {
    const { origin } = await serve(() => {});
    const error = await failure(clientFor(origin).get('/', { deadlineMs: 30 }));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_DEADLINE_EXCEEDED' });
  });

  test.each<[string, RequestBody]>([
    [
      'in its middle',
      (async function* () {
        yield 'a';
        // oxlint-disable-next-line typescript/only-throw-error
        throw undefined;
      })(),
    ],
    [
      'before it is made',
      () => {
        // oxlint-disable-next-line typescript/only-throw-error
        throw undefined;
      },
    ],
  ])('a body that fails %s without a reason fails the call', async (_, body) => {
    const { origin, seen } = await serve(json(200, {}));
    const error = await failure(clientFor(origin).post('/x', { body, deadlineMs: 1000 }));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_NETWORK', attempts: 1, stopped: 'final' });
    expect(seen).toEqual([]);
  });

  test('a stream is whole again when an interceptor sends the request a second time', async () => {
    const { origin, seen } = await serve(json(401, {}), json(503, {}), json(200, {}));
    let renewed = 0;
    const client = clientFor(origin, {
      interceptors: [
        (dispatch) =>
          function renew(request, handler) {
            return dispatch(request, {
              onRequestStart: (controller, context) =>
                handler.onRequestStart?.(controller, context),
              onResponseStart(controller, status, headers, text) {
                if (status === 401) renewed += 1;
                else handler.onResponseStart?.(controller, status, headers, text);
              },
              onResponseData(controller, chunk) {
                if (renewed !== 1 || seen.length > 1) handler.onResponseData?.(controller, chunk);
              },
              onResponseEnd(controller, trailers) {
                if (renewed === 1 && seen.length === 1) dispatch(request, handler);
                else handler.onResponseEnd?.(controller, trailers);
              },
              onResponseError: (controller, error) => handler.onResponseError?.(controller, error),
            });
          },
      ],
    });
    const body = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('first, ');
      yield Buffer.from('second');
    };
    const { attempts } = await client.put('/upload', { body: () => body() });
    expect([attempts, renewed]).toEqual([2, 1]);
    expect(seen.map((request) => request.body)).toEqual(Array(3).fill('first, second'));
  });

  test('close waits for a call that waits for its next attempt', async () => {
    const { origin } = await serve(json(503, {}), json(200, { late: true }));
    const client = clientFor(origin, { retry: { baseMs: 20, capMs: 20, jitter: 'none' } });
    const call = client.get('/');
    await client.close();
    expect((await call).body).toEqual({ late: true });
  });

  test('a closed client refuses calls', async () => {
    const client = clientFor('https://api.example.com');
    await client.close();
    expect(await failure(client.get('/'))).toMatchObject({ code: 'ERR_CLIENT_CLOSED' });
  });
});

describe('what may have been done', () => {
  test.each([
    ['headers larger than are read', { headers: { 'x-large': 'x'.repeat(40_000) } }],
    ['another protocol', { status: 101, headers: { upgrade: 'x', connection: 'upgrade' } }],
  ] as const)('is never called not sent: %s', async (_name, reply) => {
    const { origin, seen } = await serve((_request, response) => {
      response.writeHead('status' in reply ? reply.status : 200, reply.headers).end();
    });
    const client = createClient({ origin, egress: { allow: ['http://127.0.0.1:*'] } });
    onTestFinished(() => client.close());
    const error = await client.post('/', { json: {} }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_CLIENT_NETWORK' });
    expect(seen.length).toBeGreaterThan(0);
  });
});
