import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { serve } from '@hono/node-server';
import expressApp, { type ErrorRequestHandler, Router } from 'express';
import fastifyApp, { type FastifyInstance, type FastifyReply } from 'fastify';
import { Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { afterEach, beforeEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import { express } from '../src/express.ts';
import { fastify } from '../src/fastify.ts';
import { hono } from '../src/hono.ts';
import {
  chain,
  type Guard,
  type HandlerFailure,
  type Outcome,
  problem,
  route,
  type Verdict,
} from '../src/index.ts';
import { promised } from './promised.ts';
import { RawConnection } from './raw-connection.ts';

/** What each framework has of its own: its error handlers, its scopes, its ways to throw. */

/** `@hono/node-server` puts its own in the place of the global one. */
const NativeResponse = Response;

const closing: (() => unknown)[] = [];
const failures: HandlerFailure[] = [];
const onFailure = (event: unknown): void => void failures.push(event as HandlerFailure);
beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
  subscribe('countersign:guard:handler-error', onFailure);
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  unsubscribe('countersign:guard:handler-error', onFailure);
  failures.length = 0;
  vi.restoreAllMocks();
});

const marking: Guard<string> = () => ({
  pass: true,
  context: 'marked',
  headers: [['x-guard', 'yes']],
});
const marked = chain().use('mark', marking);
const generic = (status: number): unknown =>
  expect.objectContaining({ type: 'about:blank', status });

interface Answer {
  readonly status: number;
  readonly guarded: boolean;
  readonly type: string | null;
  readonly text: string;
  readonly json: unknown;
}

async function ask(origin: string, path: string, init?: RequestInit): Promise<Answer> {
  const response = await fetch(origin + path, init);
  const text = await response.text();
  return {
    status: response.status,
    guarded: response.headers.get('x-guard') === 'yes',
    type: response.headers.get('content-type'),
    text,
    json: text.startsWith('{') ? JSON.parse(text) : undefined,
  };
}

async function origin(server: Server): Promise<string> {
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

describe('Express', () => {
  const listen = (app: Parameters<typeof createServer>[1]): Promise<string> =>
    origin(createServer(app).listen(0, '127.0.0.1'));

  test('keeps the status of an error and hides its message', async () => {
    const app = expressApp().use(express(marked));
    app.get('/', () => {
      throw Object.assign(new Error('secret reason'), { status: 409 });
    });
    app.get('/string', () => {
      throw 'secret reason';
    });
    app.get('/fraction', () => {
      throw Object.assign(new Error('secret reason'), { status: 404.5 });
    });
    const at = await listen(app);
    expect(await ask(at, '/')).toMatchObject({ status: 409, guarded: true, json: generic(409) });
    expect(await ask(at, '/string')).toMatchObject({ status: 500, json: generic(500) });
    expect(await ask(at, '/fraction')).toMatchObject({ status: 500, json: generic(500) });
    expect(failures).toMatchObject([
      { path: '/', status: 409, error: { message: 'secret reason' } },
      { path: '/string', status: 500, error: 'secret reason' },
      { path: '/fraction', status: 500 },
    ]);
  });

  test('refuses nothing that was answered while the guards were deciding', async () => {
    const answered = promised<void>();
    const errors: Error[] = [];
    const app = expressApp();
    app.use('/late', (_req, res, next) => {
      res.on('error', (error) => errors.push(error));
      next();
      res.status(503).end('too late');
      answered.resolve();
    });
    app.use(
      express(async ({ path }) => {
        if (path === '/first') return { pass: true, context: 0 };
        await answered.promise;
        return problem({ status: 403 });
      }),
    );
    app.get('/first', async (_req, res) => {
      await answered.promise;
      await new Promise(setImmediate);
      res.send('first');
    });
    const connection = await RawConnection.open(Number(new URL(await listen(app)).port));
    // The second answer is complete, and waits for its turn on the connection.
    connection.send('GET /first HTTP/1.1\r\nHost: a\r\n\r\nGET /late HTTP/1.1\r\nHost: a\r\n\r\n');
    expect((await connection.response()).body.toString()).toBe('first');
    expect((await connection.response()).body.toString()).toBe('too late');
    expect(errors).toEqual([]);
    connection.close();
  });

  test("leaves errors and missing routes to the application's own handlers", async () => {
    const app = expressApp().use(express(marked));
    app.get('/throw', () => {
      throw new Error('mine');
    });
    app.use((_req, res) => void res.status(404).send('my 404'));
    const own: ErrorRequestHandler = (error, _req, res, _next) =>
      void res.status(500).send(`my ${error.message}`);
    app.use(own);
    const at = await listen(app);
    expect(await ask(at, '/throw')).toMatchObject({ text: 'my mine', guarded: true });
    expect(await ask(at, '/x')).toMatchObject({ status: 404, text: 'my 404', guarded: true });
  });

  test('hides errors of routes that were mounted after the first request', async () => {
    const app = expressApp().use(express(marked));
    const at = await listen(app);
    expect(await ask(at, '/late')).toMatchObject({ status: 404, json: generic(404) });
    app.get('/later', () => {
      throw new Error('secret reason');
    });
    expect(await ask(at, '/late')).toMatchObject({ status: 404, json: generic(404) });
    await ask(at, '/later');
    expect((await ask(at, '/later')).text).not.toContain('secret');
  });

  test('tells guards mounted on a path of the path as received, all of it or not', async () => {
    const seen: string[] = [];
    const seeing: Guard<undefined> = ({ path, query }) => {
      seen.push(query.size > 0 ? `${path}?${query.toString()}` : path);
      return { pass: true, context: undefined };
    };
    const router = Router().use(express(seeing), (_req, res) => void res.end());
    const app = expressApp().use('/orders', router);
    app.use('/rewritten', (req, _res, next) => {
      req.url = '/';
      next();
    });
    app.use('/rewritten', router);
    const at = await listen(app);
    for (const path of ['/orders', '/orders?page=2', '/orders/', '/orders/7', '/rewritten/7'])
      await ask(at, path);
    expect(seen).toEqual(['/orders', '/orders?page=2', '/orders/', '/orders/7', '/rewritten/']);
  });

  test('works inside an application inside an application', async () => {
    const inner = expressApp().use(express(marked));
    inner.get('/throw', () => {
      throw new Error('secret reason');
    });
    const outer = expressApp();
    outer.use('/inner', inner);
    outer.get('/inner/next', (_req, res) => void res.send('outer'));
    const at = await listen(outer);
    expect(await ask(at, '/inner/throw')).toMatchObject({ json: generic(500), guarded: true });
    expect(await ask(at, '/inner/next')).toMatchObject({ text: 'outer', guarded: true });
    expect(await ask(at, '/inner/nowhere')).toMatchObject({ json: generic(404), guarded: true });
    expect(await ask(at, '/unguarded')).toMatchObject({
      status: 404,
      guarded: false,
      json: undefined,
    });
  });

  test('lets a server around the application answer what it does not', async () => {
    const app = expressApp().use(express(marked));
    const at = await listen((req, res) => app(req as never, res as never, () => res.end('around')));
    expect((await ask(at, '/nowhere')).text).toBe('around');
  });

  test('still answers OPTIONS by itself', async () => {
    const app = expressApp().use(express(marked));
    app.put('/a', (_req, res) => void res.end());
    const at = await listen(app);
    expect(await ask(at, '/a', { method: 'OPTIONS' })).toMatchObject({
      status: 200,
      text: 'PUT',
      guarded: true,
    });
  });

  test('on a route knows it, and adds to what the guards before found', async () => {
    const onRoute = chain().use('route', (request) => ({ pass: true, context: request.route }));
    const app = expressApp().use(express(marked));
    const router = Router();
    router.get('/payments/:id', express(onRoute), (req, res) => void res.json(req.guard));
    app.use('/api', router);
    const at = await listen(app);
    expect((await ask(at, '/api/payments/7')).json).toEqual({
      mark: 'marked',
      route: '/api/payments/:id',
    });
  });

  test('matches policies by the whole path, also of a rewritten one', async () => {
    const denying = chain().use(
      'no',
      route('*', '/api/secret', () => problem({ status: 403 })),
    );
    const app = expressApp();
    app.use((req, _res, next) => {
      if (req.url === '/alias') req.url = '/api/secret';
      next();
    });
    app.use('/api', express(denying), (_req, res) => void res.send('open'));
    const at = await listen(app);
    expect((await ask(at, '/api/secret')).status).toBe(403);
    expect((await ask(at, '/alias')).status).toBe(403);
    expect((await ask(at, '/api/other')).text).toBe('open');
  });
});

describe('Fastify', () => {
  async function listen(app: FastifyInstance): Promise<string> {
    await app.listen({ port: 0, host: '127.0.0.1' });
    closing.push(() => app.close());
    return `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  }

  test('leaves errors and missing routes to handlers of your own', async () => {
    const app = fastifyApp();
    await app.register(fastify(marked));
    app.setErrorHandler(
      (error: Error, _request, reply) => void reply.code(500).send({ mine: error.message }),
    );
    app.setNotFoundHandler((_request, reply) => void reply.code(404).send('my 404'));
    app.get('/throw', () => {
      throw new Error('x');
    });
    const at = await listen(app);
    expect(await ask(at, '/throw')).toMatchObject({ json: { mine: 'x' }, guarded: true });
    expect(await ask(at, '/nowhere')).toMatchObject({ text: 'my 404', guarded: true });
    expect(failures).toMatchObject([{ error: { message: 'x' } }]);
  });

  test.each(['sync', 'hook', 'string', 'object', 'stream', 'twice'])(
    'tells nothing of what was thrown: %s',
    async (how) => {
      const app = fastifyApp();
      await app.register(fastify(marked));
      if (how === 'twice') {
        app.addHook('onSend', () => Promise.reject(new Error('secret reason')));
      }
      app.get(
        '/',
        {
          preHandler: async () => {
            if (how === 'hook') throw new Error('secret reason');
          },
        },
        async () => {
          if (how === 'string') throw 'secret reason';
          if (how === 'object') throw { secret: 'reason' };
          if (how === 'stream') return failing();
          throw new Error('secret reason');
        },
      );
      const at = await listen(app);
      const answer = await ask(at, '/');
      expect(answer).toMatchObject({ status: 500, guarded: true, json: generic(500) });
      expect(answer.text).not.toContain('secret');
    },
  );

  test('leaves alone an error answer that a handler writes to the raw response, also when it is held back', async () => {
    const app = fastifyApp();
    const statuses: number[] = [];
    await app.register(
      fastify(() => ({
        pass: true,
        context: 0,
        settle: ({ status }) => void statuses.push(status),
      })),
    );
    app.get('/', (_request, reply) => {
      reply.hijack();
      reply.raw.writeHead(404, 'Gone Fishing', { 'x-own': 'yes' }).end('mine');
    });
    const response = await fetch(await listen(app));
    expect([response.status, response.statusText]).toEqual([404, 'Gone Fishing']);
    expect([response.headers.get('x-own'), await response.text()]).toEqual(['yes', 'mine']);
    expect(statuses).toEqual([404]);
  });

  test.each<[string, (reply: FastifyReply) => unknown]>([
    ['its reason', ({ raw }) => Object.assign(raw, { statusMessage: 'two\nlines' })],
    ['trailers that there can be none of', (reply) => reply.header('trailer', 'x-sum')],
  ])('answers HEAD for what cannot be sent for %s', async (_what, spoil) => {
    const app = fastifyApp();
    await app.register(fastify(marked));
    app.get('/', (_request, reply) => {
      spoil(reply);
      return reply.send('half an answer');
    });
    const at = await listen(app);
    expect(await ask(at, '/', { method: 'HEAD' })).toMatchObject({ status: 500, guarded: true });
  });

  test.each([
    ['a body that the schema refuses', '/checked', '{"amount":"x"}', 'application/json', 400, true],
    ['a body that cannot be parsed', '/checked', '{', 'application/json', 400, true],
    ['a content type that nobody parses', '/checked', 'x', 'x/y', 415, true],
    ['a hook that throws', '/hooked', '{}', 'application/json', 500, true],
    ['a hook that does the work', '/answered', '{}', 'application/json', 200, undefined],
    ['a handler that refuses', '/checked', '{"amount":1}', 'application/json', 409, undefined],
    ['a handler that throws', '/thrown', '{}', 'application/json', 500, undefined],
  ])(
    'tells guards whether the handler was reached: %s',
    async (_what, path, body, type, status, refused) => {
      const app = fastifyApp();
      const outcomes: Outcome[] = [];
      const settle = (outcome: Outcome): void => void outcomes.push(outcome);
      await app.register(fastify(() => ({ pass: true, context: 0, settle })));
      const schema = { body: { type: 'object', properties: { amount: { type: 'number' } } } };
      app.post('/checked', { schema }, (_request, reply) => reply.code(409).send('no'));
      const failed = (): Promise<never> => Promise.reject(new Error('not now'));
      app.post('/hooked', { preValidation: failed }, () => 'unreachable');
      app.post(
        '/answered',
        { preValidation: (_request, reply) => void reply.send('done') },
        () => 'x',
      );
      app.post('/thrown', failed);
      const at = await listen(app);
      const init = { method: 'POST', headers: { 'content-type': type }, body };
      expect((await fetch(at + path, init)).status).toBe(status);
      expect(outcomes).toMatchObject([{ status }]);
      expect(outcomes[0]?.refused).toBe(refused);
    },
  );

  test('sends what was sent before as it was, past what rewrites answers', async () => {
    const app = fastifyApp();
    const responses: number[] = [];
    app.addHook('onSend', async (_request, reply, payload) => {
      reply.header('x-rewritten', 'yes');
      return `rewritten ${String(payload)}`;
    });
    app.addHook('onResponse', async (_request, { statusCode }) => void responses.push(statusCode));
    const said = { pass: false, status: 201, headers: [], body: 'as it was' } as const;
    await app.register(
      fastify(
        chain()
          .use('mark', marking)
          .use('again', ({ path }) => (path === '/again' ? { ...said, verbatim: true } : said)),
      ),
    );
    app.get('/', () => 'unreachable');
    app.get('/again', () => 'unreachable');
    const at = await listen(app);
    expect((await ask(at, '/')).text).toBe('rewritten as it was');
    const response = await fetch(`${at}/again`);
    expect([response.status, await response.text()]).toEqual([201, 'as it was']);
    expect(response.headers.get('x-guard')).toBe('yes');
    expect(response.headers.get('x-rewritten')).toBeNull();
    expect(response.headers.get('content-type')).toBeNull();
    await expect.poll(() => responses).toEqual([201, 201]);
  });

  test('keeps the headers that other hooks gave to what was sent before', async () => {
    const app = fastifyApp();
    app.addHook('onRequest', async (_request, reply) => {
      reply.headers({ 'access-control-allow-origin': '*', etag: '"of the hook"' });
    });
    const said = { pass: false, status: 201, headers: [['etag', '"as it was"']] } as const;
    await app.register(fastify(chain().use('again', () => ({ ...said, verbatim: true }))));
    app.get('/', () => 'unreachable');
    const { headers } = await fetch(await listen(app));
    expect(headers.get('access-control-allow-origin')).toBe('*');
    expect(headers.get('etag')).toBe('"as it was"');
  });

  describe.each(['at once', 'later'])('whose guards decide %s', (when) => {
    test.each<[by: string, status: number, said: Verdict<string>]>([
      ['a hook, for the handler', 500, { pass: true, context: '' }],
      ['a hook, for a refusal', 403, { pass: false, status: 403, headers: [] }],
      ['a hook, for a replay', 500, { pass: false, status: 201, headers: [], verbatim: true }],
      ['the handler', 500, { pass: true, context: '' }],
    ])('crashes not for a header that cannot be sent, given by %s', async (by, status, said) => {
      const app = fastifyApp();
      const give = async (_request: unknown, reply: FastifyReply): Promise<void> =>
        void reply.header('x-city', '\u20ac');
      if (by.startsWith('a hook')) app.addHook('onRequest', give);
      const guard = when === 'later' ? async () => said : () => said;
      await app.register(fastify(chain().use('says', guard)));
      app.get('/', async (request, reply) => {
        await give(request, reply);
        return 'done';
      });
      expect(await ask(await listen(app), '/')).toMatchObject({ status, json: generic(status) });
      expect(failures[0]).toMatchObject({ error: { code: 'ERR_INVALID_CHAR' } });
    });
  });

  test('keeps the status and the headers of an error', async () => {
    const app = fastifyApp();
    await app.register(fastify(marked));
    app.get('/', (_request, reply) => {
      void reply.header('x-own', 'kept');
      throw Object.assign(new Error('secret'), {
        statusCode: 418,
        headers: { 'retry-after': '5' },
      });
    });
    const at = await listen(app);
    const response = await fetch(at);
    expect([
      response.status,
      response.headers.get('x-own'),
      response.headers.get('retry-after'),
    ]).toEqual([418, 'kept', '5']);
    expect(await response.json()).toEqual(generic(418));
  });

  test('leaves scopes alone that have no guards', async () => {
    const app = fastifyApp();
    await app.register(async (scope) => {
      await scope.register(fastify(marked));
      scope.get('/in', (request) => request.guard);
      scope.get('/in/throw', () => {
        throw new Error('secret');
      });
    });
    app.get('/out', () => {
      throw new Error('shown');
    });
    const at = await listen(app);
    expect(await ask(at, '/in')).toMatchObject({ json: { mark: 'marked' }, guarded: true });
    expect(await ask(at, '/in/throw')).toMatchObject({ json: generic(500), guarded: true });
    expect(await ask(at, '/out')).toMatchObject({ guarded: false, json: { message: 'shown' } });
    expect(await ask(at, '/nowhere')).toMatchObject({
      guarded: false,
      json: { error: 'Not Found' },
    });
  });

  test('lets inner scopes add guards, who find the body as well', async () => {
    const length = chain().use('length', async (request) => ({
      pass: true,
      context: (await request.rawBody()).length,
    }));
    const app = fastifyApp();
    await app.register(fastify(length));
    await app.register(async (scope) => {
      await scope.register(
        fastify(
          chain().use('again', async (request) => ({
            pass: true,
            context: (await request.rawBody()).length,
          })),
        ),
      );
      scope.post('/', (request) => ({ guard: request.guard, body: request.body }));
    });
    const at = await listen(app);
    const init = {
      method: 'POST',
      body: '{"a":1}',
      headers: { 'content-type': 'application/json' },
    };
    expect((await ask(at, '/', init)).json).toEqual({
      guard: { length: 7, again: 7 },
      body: { a: 1 },
    });
  });

  test('runs under inject, body and all', async () => {
    const app = fastifyApp();
    const guards = chain()
      .use('body', async (request) => ({ pass: true, context: (await request.rawBody()).length }))
      .use(
        'no',
        route('GET', '/no', () => problem({ status: 403 })),
      );
    await app.register(fastify(guards));
    app.post('/', (request) => ({ guard: request.guard, body: request.body }));
    app.get('/no', () => 'reached');
    closing.push(() => app.close());
    const { json } = await app.inject({ method: 'POST', url: '/', payload: { a: 1 } });
    expect(json()).toEqual({ guard: { body: 7 }, body: { a: 1 } });
    expect((await app.inject('/no')).json()).toEqual(generic(403));
  });

  test('refuses what cannot be routed with the refusal of the guards', async () => {
    const app = fastifyApp();
    await app.register(fastify(chain().use('no', () => problem({ status: 429 }))));
    const at = await listen(app);
    expect(await ask(at, '/%E0%A4%A')).toMatchObject({ status: 429, json: generic(429) });
  });
});

describe('Hono', () => {
  const listen = (app: Hono<never>): Promise<string> =>
    origin(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server);

  test('leaves errors and missing routes to handlers of your own', async () => {
    const app = new Hono();
    app.use(hono(marked));
    app.onError((error, c) => c.text(`my ${error.message}`, 500));
    app.notFound((c) => c.text('my 404', 404));
    app.get('/throw', () => {
      throw new Error('x');
    });
    const at = await listen(app as never);
    expect(await ask(at, '/throw')).toMatchObject({ text: 'my x', guarded: true });
    expect(await ask(at, '/nowhere')).toMatchObject({ text: 'my 404', guarded: true });
    expect(failures).toMatchObject([{ path: '/throw', error: { message: 'x' } }]);
  });

  test.each([
    [
      'an Error',
      500,
      () => {
        throw new Error('secret reason');
      },
    ],
    [
      'an HTTPException',
      418,
      () => {
        throw new HTTPException(418, { message: 'secret reason' });
      },
    ],
    [
      'a string',
      500,
      () => {
        throw 'secret reason';
      },
    ],
  ])('tells nothing of %s that was thrown', async (_what, status, handler) => {
    const app = new Hono();
    app.use(hono(marked));
    app.get('/', handler);
    const at = await listen(app as never);
    expect(await ask(at, '/')).toMatchObject({ status, guarded: true, json: generic(status) });
    expect(failures).toMatchObject([{ status }]);
  });

  test('prints what was thrown and is no Error, of which Hono tells nobody, while nobody listens', async () => {
    unsubscribe('countersign:guard:handler-error', onFailure);
    const app = new Hono();
    app.use(hono(marked));
    app.get('/', () => {
      throw 'secret reason';
    });
    await ask(await listen(app as never), '/');
    expect(console.error).toHaveBeenCalledExactlyOnceWith(
      'countersign:guard:handler-error:',
      'secret reason',
    );
  });

  test('tells nothing of a body that fails before it has begun', async () => {
    const app = new Hono();
    app.use(hono(marked));
    app.get('/', () => new Response(failingBody()));
    const at = await listen(app as never);
    const text = await ask(at, '/').then(
      (answer) => answer.text,
      () => '',
    );
    expect(text).not.toContain('secret');
  });

  test('tells nothing of a body that fails, in a response that Hono did not make', async () => {
    const app = new Hono();
    app.use(hono(marked));
    app.get('/', () => new NativeResponse(failingBody()));
    const at = await listen(app as never);
    const answer = await ask(at, '/').catch(() => undefined);
    expect(answer?.text ?? '').not.toContain('secret');
    if (answer) expect(answer).toMatchObject({ status: 500, guarded: true });
  });

  test('keeps a response of its own to an HTTPException', async () => {
    const app = new Hono();
    app.use(hono(marked));
    app.get('/', () => {
      throw new HTTPException(401, { res: Response.json({ mine: true }, { status: 401 }) });
    });
    const at = await listen(app as never);
    expect(await ask(at, '/')).toMatchObject({ json: { mine: true }, guarded: true });
  });

  test('is typed: the handler knows what the guards found', async () => {
    const app = new Hono().use(hono(marked)).post('/', async (c) => {
      expectTypeOf(c.get('guard').mark).toEqualTypeOf<string>();
      return c.json({ mark: c.get('guard').mark, form: (await c.req.parseBody())['a'] });
    });
    const at = await listen(app as never);
    const init = { method: 'POST', body: new URLSearchParams({ a: 'ü' }) };
    expect((await ask(at, '/', init)).json).toEqual({ mark: 'marked', form: 'ü' });
  });

  test('gives the body to whatever reads it, after the guards', async () => {
    const reading = chain().use('length', async (request) => ({
      pass: true,
      context: (await request.rawBody()).length,
    }));
    const app = new Hono();
    app.use(hono(reading), hono(marked));
    app.post('/form', async (c) => c.json(await c.req.parseBody()));
    app.post('/raw', async (c) => c.text(await c.req.raw.text()));
    app.post('/stream', (c) => new Response(c.req.raw.body));
    app.post('/context', (c) => c.json(c.get('guard' as never)));
    const at = await listen(app as never);
    const init = { method: 'POST', body: new URLSearchParams({ a: 'b' }) };
    expect((await ask(at, '/form', init)).json).toEqual({ a: 'b' });
    expect((await ask(at, '/raw', init)).text).toBe('a=b');
    expect((await ask(at, '/stream', init)).text).toBe('a=b');
    expect((await ask(at, '/context', init)).json).toEqual({ length: 3, mark: 'marked' });
  });

  test.each(['at once', 'piece by piece'])(
    'sends what was sent before as it was, whatever rewrites it %s, which may add header fields',
    async (how) => {
      const app = new Hono();
      app.use(async (c, next) => {
        await next();
        const body = how === 'at once' ? 'rewritten' : ReadableStream.from([Buffer.from('re')]);
        c.res = new Response(body, c.res);
        c.header('content-encoding', 'rot13');
        c.header('x-added', 'yes');
      });
      const said = { pass: false, status: 201, headers: [], body: 'as it was' } as const;
      app.use(
        hono(
          chain()
            .use('mark', marking)
            .use('again', () => ({ ...said, verbatim: true })),
        ),
      );
      const response = await fetch(await listen(app as never));
      expect([response.status, await response.text()]).toEqual([201, 'as it was']);
      expect(response.headers.get('x-guard')).toBe('yes');
      expect(response.headers.get('x-added')).toBe('yes');
      expect(response.headers.get('content-encoding')).toBeNull();
      expect(response.headers.get('content-type')).toBeNull();
    },
  );

  test('says what is missing when it does not run on node:http', async () => {
    const app = new Hono().use(hono(marked));
    const thrown: unknown[] = [];
    app.onError((error, c) => {
      thrown.push(error);
      return c.body(null, 500);
    });
    expect((await app.request('/')).status).toBe(500);
    expect(thrown).toMatchObject([{ code: 'ERR_GUARD_UNSUPPORTED_SERVER' }]);
  });
});

function failing(): Readable {
  return new Readable({
    read() {
      this.destroy(new Error('secret reason'));
    },
  });
}

function failingBody(): ReadableStream {
  return new ReadableStream({
    pull(controller) {
      controller.error(new Error('secret reason'));
    },
  });
}
