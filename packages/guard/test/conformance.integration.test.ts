import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  chain,
  type Guard,
  type GuardFailure,
  type GuardRequest,
  type HandlerFailure,
  type HeaderEntry,
  type Outcome,
  problem,
  type Reply,
  route,
  type Verdict,
} from '../src/index.ts';
import { promised } from './promised.ts';
import { RawConnection, type RawResponse } from './raw-connection.ts';
import { type Application, large, type RunningServer, servers } from './servers.ts';

const closing: (() => unknown)[] = [];
const failures: HandlerFailure[] = [];
const guardFailures: GuardFailure[] = [];
const onFailure = (event: unknown): void => void failures.push(event as HandlerFailure);
const onGuardFailure = (event: unknown): void => void guardFailures.push(event as GuardFailure);

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
  subscribe('countersign:guard:handler-error', onFailure);
  subscribe('countersign:guard:guard-error', onGuardFailure);
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  unsubscribe('countersign:guard:handler-error', onFailure);
  unsubscribe('countersign:guard:guard-error', onGuardFailure);
  failures.length = 0;
  guardFailures.length = 0;
  vi.restoreAllMocks();
});

/** A test of what only some adapters have. */
function testWhen(applies: boolean, title: string, body: () => Promise<void>): void {
  if (applies) test(title, body);
}

const marks: readonly HeaderEntry[] = [
  ['x-guard', 'yes'],
  ['vary', 'origin'],
  ['set-cookie', 'c=3'],
  ['cache-control', 'no-store'],
];
const marking: Guard<string> = () => ({ pass: true, context: 'marked', headers: marks });
const looking =
  <C>(look: (request: GuardRequest) => C | Promise<C>): Guard<Awaited<C>> =>
  async (request) => ({ pass: true, context: await look(request) });
const settling =
  (settle: (outcome: Outcome) => void | Promise<void>): Guard<undefined> =>
  () => ({ pass: true, context: undefined, settle });

const get = (path: string, fields = ''): string =>
  `GET ${path} HTTP/1.1\r\nHost: a.test\r\n${fields}\r\n`;
const post = (path: string, body: string | Uint8Array, fields = ''): Buffer =>
  Buffer.concat([
    Buffer.from(
      `POST ${path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${Buffer.byteLength(body)}\r\n${fields}\r\n`,
    ),
    Buffer.from(body),
  ]);
const asJson = 'Content-Type: application/json\r\n';
const asBytes = 'Content-Type: application/octet-stream\r\n';

describe.each(Object.entries(servers))('%s', (adapter, start) => {
  async function serving(application: Application): Promise<RunningServer> {
    const running = await start(application);
    closing.push(() => running.close());
    return running;
  }

  async function connected(application: Application): Promise<RawConnection> {
    const { port } = await serving(application);
    const connection = await RawConnection.open(port);
    closing.push(() => connection.close());
    return connection;
  }

  async function ask(
    application: Application,
    request: string | Uint8Array,
    options: { head?: boolean } = {},
  ): Promise<RawResponse> {
    return (await connected(application)).send(request).response(options);
  }

  async function seen<C>(
    look: (request: GuardRequest) => C | Promise<C>,
    request: string | Uint8Array,
    options: Application['options'] = {},
  ): Promise<Awaited<C>> {
    const found = promised<Awaited<C>>();
    const guard: Guard<unknown> = async (given) => {
      try {
        found.resolve(await look(given));
      } catch (error) {
        found.reject(error);
      }
      return problem({ status: 418 });
    };
    await ask({ guard, options }, request);
    return found.promise;
  }

  function expectProblem(response: RawResponse, status: number): void {
    expect(response.status).toBe(status);
    expect(response.header('content-type')).toBe('application/problem+json');
    const { title, ...rest } = JSON.parse(response.body.toString());
    expect(rest).toEqual({ type: 'about:blank', status });
    expect(title).toEqual(expect.any(String));
  }

  describe('the request', () => {
    test('shows method, path as received, query and route', async () => {
      const found = await seen(
        ({ method, path, query, search }) => ({ method, path, query: query.getAll('a'), search }),
        get('/%68ello/%2F?a=1&a=%2B'),
      );
      expect(found).toEqual({
        method: 'GET',
        path: '/%68ello/%2F',
        query: ['1', '+'],
        search: '?a=1&a=%2B',
      });
    });

    test('leaves the authority of an absolute target out of the path', async () => {
      const path = await seen((request) => request.path, get('http://a.test/hello?x'));
      expect(path).toBe('/hello');
    });

    test('whose absolute target has no host reaches no handler: routers disagree on its path', async () => {
      // A URL parser takes the first segment for the host that is missing.
      const guard: Guard<unknown> = route('GET', '/hello/*', () => problem({ status: 401 }));
      const chained = chain().use('marked', marking).use('policy', guard) as Guard<unknown>;
      for (const target of ['http:///x/hello', 'http:////x/hello']) {
        const response = await ask({ guard: chained }, get(target));
        expectProblem(response, 400);
        expect(response.header('x-guard')).toBe('yes');
      }
    });

    test('shows duplicate header lines', async () => {
      const found = await seen(
        ({ headers }) => [
          headers.all('Authorization'),
          headers.get('authorization'),
          headers.all('x-none'),
          headers.get('x-none'),
        ],
        get('/hello', 'Authorization: a\r\nAUTHORIZATION: b\r\n'),
      );
      expect(found).toEqual([['a', 'b'], 'a, b', [], undefined]);
    });

    test('knows the route where the framework does', async () => {
      const routes = await seen(({ route }) => route, get('/hello'));
      expect(routes).toBe(adapter === 'fastify' || adapter === 'hono' ? '/hello' : undefined);
    });

    test('names the peer and ignores what it claims to forward', async () => {
      const found = await seen(
        ({ remoteAddress, secure }) => ({ remoteAddress, secure }),
        get('/hello', 'X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n'),
      );
      expect(found).toEqual({ remoteAddress: '127.0.0.1', secure: false });
    });

    test('believes a trusted proxy, and only as far as proxies are trusted', async () => {
      const found = await seen(
        ({ remoteAddress, secure }) => ({ remoteAddress, secure }),
        get(
          '/hello',
          'X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\nX-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: https\r\n',
        ),
        { trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'] },
      );
      expect(found).toEqual({ remoteAddress: '203.0.113.7', secure: true });
    });

    test.each([
      [['127.0.0.1'], true],
      [['10.0.0.0/8'], false],
      [[], false],
    ])('tells whether a proxy that is trusted sent it (%j)', async (trustedProxies, expected) => {
      const look = route(
        'GET',
        '/hello',
        looking(({ viaTrustedProxy }) => viaTrustedProxy),
      );
      const spoofed = get('/hello', 'X-Forwarded-For: 127.0.0.1, 10.0.0.1\r\n');
      const verdict = await seen(async (request) => look(request, {}), spoofed, { trustedProxies });
      expect(verdict).toMatchObject({ context: expected });
    });

    test.each([
      ['http, https', true],
      ['https, http', false],
      ['HTTPS', true],
      ['', false],
    ])(
      'takes the last word about the protocol (%s) from a trusted proxy',
      async (value, secure) => {
        const found = await seen(
          (request) => request.secure,
          get('/hello', `X-Forwarded-Proto: ${value}\r\n`),
          { trustedProxies: ['127.0.0.1'] },
        );
        expect(found).toBe(secure);
      },
    );

    test('aborts its signal when the caller goes away, and only then', async () => {
      const signals: AbortSignal[] = [];
      const began = promised<void>();
      const guard = looking(({ signal }) => void signals.push(signal));
      const application = { guard, gate: new Promise(() => {}), began: began.resolve };
      const { port } = await serving(application);
      const connection = await RawConnection.open(port);
      await connection.send(get('/hello')).response();
      connection.send(get('/wait'));
      await began.promise;
      expect(signals.map(({ aborted }) => aborted)).toEqual([false, false]);
      connection.close();
      await expect.poll(() => signals[1]?.aborted).toBe(true);
      expect(signals[0]?.aborted).toBe(false);
    });
  });

  describe('the body', () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, index) => 255 - index));

    test('reaches a guard as it was sent, and the handler after it', async () => {
      const found: Uint8Array[] = [];
      const guard = looking(async (request) => {
        found.push(await request.rawBody(), await request.rawBody());
      });
      const response = await ask({ guard }, post('/bytes', bytes, asBytes));
      expect(found.map((body) => Buffer.from(body).equals(bytes))).toEqual([true, true]);
      expect(response.body.equals(bytes)).toBe(true);
    });

    test("reaches the framework's own parser after a guard has read it", async () => {
      const guard = chain().use(
        'length',
        looking(async (request) => (await request.rawBody()).length),
      );
      const response = await ask({ guard }, post('/json', '{"a":"ü"}', asJson));
      expect(JSON.parse(response.body.toString())).toEqual({
        body: { a: 'ü' },
        guard: { length: 10 },
      });
    });

    test('is refused as soon as it outgrows a bound that the guard sets itself', async () => {
      const guard = looking((request) => request.rawBody(4));
      const connection = await connected({ guard });
      connection.send(
        'POST /bytes HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n',
      );
      // The rest of the body never comes.
      expectProblem(await connection.response(), 413);
      const fits = await ask({ guard }, post('/bytes', '1234', asBytes));
      expect(fits.body.toString()).toBe('1234');
    });

    test.each([Number.NaN, '1mb'])('is not read within a bound that is none: %s', async (bound) => {
      const guard = looking((request) => request.rawBody(bound as number));
      expectProblem(await ask({ guard }, post('/bytes', '1234', asBytes)), 500);
      expect(guardFailures[0]?.error).toBeInstanceOf(TypeError);
    });

    test('is put together from chunks that arrive apart', async () => {
      const guard = looking((request) => request.rawBody());
      const connection = await connected({ guard });
      connection.send(
        `POST /bytes HTTP/1.1\r\nHost: a\r\n${asBytes}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
      );
      await new Promise(setImmediate);
      connection.send('2\r\nde\r\n');
      await new Promise(setImmediate);
      connection.send('0\r\n\r\n');
      expect((await connection.response()).body.toString()).toBe('abcde');
    });

    test.each(['Content-Length: 0\r\n\r\n', 'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n'])(
      'that is empty leaves its end to the handler: %j',
      async (framing) => {
        const guard = looking(async (request) => (await request.rawBody()).length);
        const request = `POST /bytes HTTP/1.1\r\nHost: a.test\r\n${asBytes}${framing}`;
        const response = await ask({ guard }, request);
        expect([response.status, response.body.length]).toEqual([200, 0]);
      },
    );

    test('is larger than what a stream buffers', async () => {
      const guard = looking((request) => request.rawBody());
      const much = Buffer.alloc(900_000, 'x');
      const response = await ask({ guard }, post('/bytes', much, asBytes));
      expect(response.body.equals(much)).toBe(true);
    });

    test.each([
      ['no body', get('/hello')],
      ['an empty one', post('/hello', '')],
      [
        'an empty chunked one',
        'POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      ],
    ])('is empty when there is %s', async (_what, request) => {
      expect(await seen(async (given) => (await given.rawBody()).length, request)).toBe(0);
    });

    test('is refused by its declared length, unread, and the connection closed', async () => {
      const guard = chain()
        .use('marks', marking)
        .use(
          'body',
          looking((r) => r.rawBody()),
        );
      const connection = await connected({ guard, options: { maxBodyBytes: 10 } });
      connection.send('POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n');
      const response = await connection.response();
      expectProblem(response, 413);
      expect(response.header('connection')).toBe('close');
      expect(response.header('x-guard')).toBe('yes');
      await connection.closed;
    });

    test('is refused when it turns out too large, and the caller that is still sending gets the answer', async () => {
      const guard = looking((request) => request.rawBody());
      const connection = await connected({ guard, options: { maxBodyBytes: 1000 } });
      connection.send('POST /json HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
      for (let sent = 0; sent < 64; sent += 1) {
        connection.send(`10000\r\n${'x'.repeat(65_536)}\r\n`);
      }
      const response = await connection.response();
      expectProblem(response, 413);
      expect(response.header('connection')).toBe('close');
      await connection.closed;
    });

    testWhen(
      adapter !== 'node',
      'that a parser has eaten is an error that tells how to mount',
      async () => {
        const guard = chain().use(
          'body',
          looking((request) => request.rawBody()),
        );
        const response = await ask({ guard, parserFirst: true }, post('/json', '{"a":1}', asJson));
        expectProblem(response, 500);
        expect(guardFailures).toMatchObject([
          { guard: 'body', error: { code: 'ERR_GUARD_BODY_CONSUMED' } },
        ]);
        expect(String(guardFailures[0]?.error)).toContain('mount the guards before');
      },
    );

    test('that is cut off rejects, and crashes nothing', async () => {
      const rejected = promised<unknown>();
      const reached = promised<void>();
      const guard: Guard<unknown> = async (request) => {
        const reading = request.rawBody();
        reached.resolve();
        await reading.catch(rejected.resolve);
        return problem({ status: 400 });
      };
      const connection = await connected({ guard });
      connection.send('POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc');
      await reached.promise;
      connection.close();
      expect(await rejected.promise).toMatchObject({ code: 'ERR_GUARD_BODY_ABORTED' });
    });

    test('that is cut off while the guard waits for something else crashes nothing', async () => {
      const reached = promised<void>();
      const gone = promised<void>();
      const found = promised<unknown>();
      const guard: Guard<unknown> = async (request) => {
        const readings = [request.rawBody(), request.rawBody()];
        request.signal.addEventListener('abort', () => setImmediate(gone.resolve));
        reached.resolve();
        await gone.promise;
        found.resolve(await Promise.allSettled(readings));
        return problem({ status: 400 });
      };
      const connection = await connected({ guard });
      connection.send('POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc');
      await reached.promise;
      connection.close();
      const rejected = { status: 'rejected', reason: { code: 'ERR_GUARD_BODY_ABORTED' } };
      expect(await found.promise).toMatchObject([rejected, rejected]);
    });
  });

  describe('refusals', () => {
    test('are sent as they are', async () => {
      const reply = problem({ status: 401, detail: 'why' }, [
        ['www-authenticate', 'Bearer'],
        ['www-authenticate', 'Basic'],
      ]);
      const guard = chain()
        .use('marks', marking)
        .use('no', () => reply);
      const response = await ask({ guard }, get('/hello'));
      expect(response.status).toBe(401);
      expect(response.all('www-authenticate')).toEqual(['Bearer', 'Basic']);
      expect(response.header('x-guard')).toBe('yes');
      expect(response.header('content-type')).toBe('application/problem+json');
      expect(JSON.parse(response.body.toString())).toMatchObject({ status: 401, detail: 'why' });
    });

    test('without a body', async () => {
      const guard: Guard<unknown> = () => ({ pass: false, status: 204, headers: [['x-a', '1']] });
      const response = await ask({ guard }, get('/hello'));
      expect([response.status, response.header('x-a'), response.body.length]).toEqual([
        204,
        '1',
        0,
      ]);
    });

    test('with bytes for a body', async () => {
      const body = Uint8Array.of(0, 255, 128);
      const guard: Guard<unknown> = () => ({ pass: false, status: 200, headers: [], body });
      const response = await ask({ guard }, get('/hello'));
      expect([...response.body]).toEqual([...body]);
    });

    test.each([
      ['alone', []],
      ['with the length before it', [['content-length', '4']]],
      ['behind a guard that sees the response', []],
    ] satisfies [string, HeaderEntry[]][])(
      'keep the letters of a file name: %s',
      async (how, before) => {
        const named = ['content-disposition', 'attachment; filename="März.pdf"'] as const;
        const headers = [...before, named];
        const guard = chain()
          .use('seen', how.startsWith('behind') ? settling(() => {}) : marking)
          .use('no', () => ({ pass: false, status: 200, headers, body: Buffer.from('%PDF') }));
        const response = await ask({ guard }, get('/hello'));
        expect(response.header('content-disposition')).toBe(named[1]);
        expect(response.body.toString()).toBe('%PDF');
      },
    );

    test('answer HEAD without a body', async () => {
      const guard = chain().use('no', () => problem({ status: 403 }));
      const connection = await connected({ guard });
      connection.send('HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n').send(get('/hello'));
      expect((await connection.response({ head: true })).status).toBe(403);
      expectProblem(await connection.response(), 403);
    });

    test('read a small body off the connection, which serves the next request', async () => {
      const guard = chain().use('no', ({ method }) =>
        method === 'POST' ? problem({ status: 403 }) : { pass: true, context: 1 },
      );
      const connection = await connected({ guard });
      connection.send(post('/json', 'x'.repeat(50_000))).send(get('/hello'));
      expectProblem(await connection.response(), 403);
      expect((await connection.response()).status).toBe(200);
    });

    test('close the connection rather than wait for a large body', async () => {
      const guard = chain().use('no', () => problem({ status: 403 }));
      const connection = await connected({ guard });
      connection.send('POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\nabc');
      const response = await connection.response();
      expectProblem(response, 403);
      expect(response.header('connection')).toBe('close');
      await connection.closed;
    });

    test('reach a caller that sends everything before it reads anything', async () => {
      const guard = chain().use('no', () => problem({ status: 403 }));
      const connection = await connected({ guard });
      connection.socket.pause();
      connection.send('POST /json HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n');
      await new Promise((resolve) => {
        connection.socket.write(Buffer.alloc(8_000_000), resolve);
      });
      connection.socket.resume();
      expectProblem(await connection.response(), 403);
      await connection.closed;
    });

    test.each([
      ['a line break in a header', [['x-a', 'b\r\nx-evil: 1']]],
      ['a header name that is none', [['x a', 'b']]],
    ] as [string, HeaderEntry[]][])(
      'that cannot be sent (%s) become a 500',
      async (_what, headers) => {
        for (const verdict of [
          { pass: false as const, status: 403, headers },
          { pass: true as const, context: 1, headers },
        ]) {
          const response = await ask({ guard: () => verdict }, get('/hello'));
          expectProblem(response, 500);
          expect(response.header('x-evil')).toBeUndefined();

          const settled = vi.fn<(outcome: Outcome) => void>();
          const before = chain().use('first', settling(settled)).use('mark', marking);
          const behind = await ask({ guard: before.use('last', () => verdict) }, get('/hello'));
          expectProblem(behind, 500);
          expect(behind.header('x-evil')).toBeUndefined();
          expect(behind.header('x-guard')).toBe('yes');
          expect(settled.mock.calls).toMatchObject([[{ status: 500 }]]);
        }
        const error = { code: 'ERR_GUARD_INVALID_VERDICT' };
        expect(guardFailures).toMatchObject([
          { guard: '', error },
          { guard: 'last', error },
          { guard: '', error },
          { guard: 'last', error },
        ]);
      },
    );

    test('that a handler made and cannot be sent are its failure, and no refusal', async () => {
      const settled = vi.fn<(outcome: Outcome) => void>();
      const answer = {
        pass: false as const,
        status: 201,
        headers: [['location', 'a\r\nb']] as const,
        handled: {},
      };
      const guard = chain()
        .use('first', settling(settled))
        .use('handler', () => answer);
      expectProblem(await ask({ guard }, get('/hello')), 500);
      expect(settled).toHaveBeenCalledOnce();
      expect(settled.mock.calls[0]?.[0]).toMatchObject({ status: 500 });
      expect(settled.mock.calls[0]?.[0]).not.toHaveProperty('refused');
    });

    describe.each(['at once', 'later'])('that are none, decided %s, are a 500', (when) => {
      test.each([
        undefined,
        null,
        { pass: 1, context: 'truthy' },
        { pass: true, context: 'fields', headers: { 'x-a': 'b' } },
        { pass: false, status: 403 },
        { pass: false, status: 403, headers: [], body: { error: 'no' } },
      ])('%j', async (nonsense) => {
        const verdict = nonsense as unknown as Verdict<unknown>;
        const guard: Guard<unknown> = () => (when === 'later' ? Promise.resolve(verdict) : verdict);
        expectProblem(await ask({ guard }, get('/hello')), 500);

        const settled = vi.fn<() => void>();
        const behind = chain().use('first', settling(settled)).use('mark', marking);
        const response = await ask({ guard: behind.use('last', guard) }, get('/hello'));
        expectProblem(response, 500);
        expect(response.header('x-guard')).toBe('yes');
        expect(settled).toHaveBeenCalledOnce();
        expect(guardFailures.map(({ guard: name }) => name)).toEqual(['', 'last']);
      });
    });

    test('with a status that is none become a 500', async () => {
      const guard: Guard<unknown> = () => ({ pass: false, status: 99, headers: [] });
      expectProblem(await ask({ guard }, get('/hello')), 500);
    });

    test.each([
      [
        'throws',
        () => {
          throw new Error('secret reason');
        },
      ],
      ['rejects', () => Promise.reject(new Error('secret reason'))],
    ] as [string, Guard<never>][])(
      'a guard outside a chain that %s is a 500 that says nothing',
      async (_how, guard) => {
        expectProblem(await ask({ guard }, get('/hello')), 500);
        expect(guardFailures).toMatchObject([{ error: { message: 'secret reason' } }]);
      },
    );
  });

  test("an explanation that is none leaves the failure its problem, with the guards' headers", async () => {
    const explain = (() => ({ pass: false, status: 418 })) as unknown as () => Reply;
    const guard: Guard<string> = () => ({ pass: true, context: '', headers: marks, explain });
    for (const explaining of [guard, chain().use('explaining', guard)]) {
      const response = await ask({ guard: explaining }, get('/throw'));
      expectProblem(response, 500);
      expect(response.header('x-guard')).toBe('yes');
    }
    expect(guardFailures.map(({ guard: name }) => name)).toEqual(['', 'explaining']);
  });

  describe("the guards' headers", () => {
    const guard = marking;
    const expectMarks = (response: RawResponse): void => {
      expect(response.all('x-guard')).toEqual(['yes']);
      expect(response.all('cache-control')).toEqual(['no-store']);
      expect(response.all('vary').join()).toContain('origin');
      expect(response.all('set-cookie')).toContain('c=3');
      expect(response.header('x-powered-by')).toBeUndefined();
      expect(response.header('server')).toBeUndefined();
    };

    test("replace the handler's, except those that are lists, which stand beside them", async () => {
      const response = await ask({ guard }, get('/fields'));
      expectMarks(response);
      expect(response.all('set-cookie')).toEqual(['a=1', 'b=2', 'c=3']);
      expect(response.all('vary').join(', ')).toBe('accept, origin');
      expect(response.header('x-own')).toBe('yes');
    });

    test.each([
      ['a good answer', get('/hello'), 200],
      ['204', get('/empty'), 204],
      ['405', post('/hello', ''), 405],
    ])('are on %s', async (_what, request, status) => {
      const response = await ask({ guard }, request);
      expect(response.status).toBe(status);
      expectMarks(response);
    });

    test('are on the answer to HEAD', async () => {
      const response = await ask({ guard }, 'HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n', {
        head: true,
      });
      expect(response.status).toBe(200);
      expectMarks(response);
    });

    test.each([
      ['a handler that throws', get('/throw'), 500],
      ['404', get('/nowhere'), 404],
      ['malformed JSON', post('/json', '{"a":', asJson), adapter === 'hono' ? 500 : 400],
    ])('are on the answer to %s, which says nothing', async (_what, request, status) => {
      const response = await ask({ guard }, request);
      expectMarks(response);
      expect(response.status).toBe(status);
      if (adapter !== 'node' || status === 500) expectProblem(response, status);
    });

    test('are on the answer to a URL that cannot be decoded', async () => {
      const response = await ask({ guard }, get('/%E0%A4%A'));
      expect([400, 404]).toContain(response.status);
      expectMarks(response);
      if (adapter !== 'node') expectProblem(response, response.status);
    });

    test('that are static are on the answer to what is no HTTP', async () => {
      const connection = await connected({ guard });
      const response = await connection.send('NONSENSE\r\n\r\n').response();
      expectProblem(response, 400);
      expect(response.header('x-guard')).toBe('static');
      await connection.closed;
    });

    test('the answer to oversized header fields is a 431', async () => {
      const connection = await connected({ guard });
      connection.send(get('/hello', `X-A: ${'a'.repeat(20_000)}\r\n`));
      expectProblem(await connection.response(), 431);
    });

    test('what was thrown is reported, and nobody else told', async () => {
      await ask({ guard }, get('/throw'));
      expect(failures).toMatchObject([
        { method: 'GET', path: '/throw', status: 500, error: { message: 'secret reason' } },
      ]);
    });

    testWhen(
      adapter === 'fastify',
      'are on the answer to a parameter that is too long',
      async () => {
        expectMarks(await ask({ guard }, get(`/${'a'.repeat(5000)}`)));
      },
    );
  });

  describe('settle', () => {
    test('hears of the answer that is sent in the place of what a later guard decided wrongly', async () => {
      const outcomes: Outcome[] = [];
      const guard = chain()
        .use(
          'first',
          settling((outcome) => void outcomes.push(outcome)),
        )
        .use('second', () => ({ pass: true, context: 0, headers: [['x-bad', 'a\r\nb']] }));
      expectProblem(await ask({ guard: guard as Guard<unknown> }, get('/hello')), 500);
      expect(outcomes).toMatchObject([{ status: 500, aborted: false, refused: true }]);
    });

    test('sees the whole response before any of it leaves', async () => {
      const go = promised<void>();
      const outcomes: Outcome[] = [];
      const guard = chain()
        .use('marks', marking)
        .use(
          'settle',
          settling((outcome) => {
            outcomes.push(outcome);
            return go.promise;
          }),
        );
      const connection = await connected({ guard });
      connection.send(get('/fields'));
      await expect.poll(() => outcomes).toHaveLength(1);
      expect(connection.pending).toBe('');
      go.resolve();
      const response = await connection.response();
      const [{ status, headers, body, aborted }] = outcomes as [Outcome];
      expect([status, aborted]).toEqual([200, false]);
      expect(Buffer.from(body ?? []).equals(response.body)).toBe(true);
      expect(headers).toEqual(
        expect.arrayContaining([
          ['x-guard', 'yes'],
          ['set-cookie', 'a=1'],
          ['set-cookie', 'c=3'],
        ]),
      );
    });

    test('sees a body that was written in pieces, which arrives whole', async () => {
      const outcomes: Outcome[] = [];
      const guard = settling((outcome) => void outcomes.push(outcome));
      const response = await ask({ guard }, get('/large'));
      expect(response.body.toString()).toBe(large);
      expect(outcomes).toHaveLength(1);
      // Hono's server announces a stream by flushing the headers.
      if (adapter !== 'hono') expect(outcomes[0]?.body).toHaveLength(large.length);
    });

    test('sees no body beyond the bound, and the rest is streamed', async () => {
      const outcomes: Outcome[] = [];
      const guard = settling((outcome) => void outcomes.push(outcome));
      const response = await ask({ guard, options: { maxSettleBytes: 5000 } }, get('/large'));
      expect(response.body.toString()).toBe(large);
      expect(outcomes).toMatchObject([{ status: 200, aborted: false }]);
      expect(outcomes[0]).not.toHaveProperty('body');
    });

    test('comes before the first bytes of a streamed response, which goes on', async () => {
      const gate = promised<void>();
      const settled = promised<void>();
      const outcomes: Outcome[] = [];
      const guard = settling((outcome) => {
        outcomes.push(outcome);
        return settled.promise;
      });
      const connection = await connected({ guard, gate: gate.promise });
      connection.send(get('/stream'));
      await expect.poll(() => outcomes).toHaveLength(1);
      expect(connection.pending).toBe('');
      settled.resolve();
      await connection.until('first ');
      gate.resolve();
      expect((await connection.response()).body.toString()).toBe('first second');
      expect(outcomes).toHaveLength(1);
    });

    test('may have its own answer sent in place of a stream', async () => {
      const outcomes: Outcome[] = [];
      const guard = chain()
        .use('marks', marking)
        .use(
          'plain',
          settling(() => {}),
        )
        .use('whole', () => ({
          pass: true,
          context: 0,
          settle: (outcome: Outcome) => void outcomes.push(outcome),
          streaming: () => problem({ status: 500, title: 'no streams' }, [['x-instead', '1']]),
        }));
      const connection = await connected({ guard, gate: Promise.resolve() });
      for (const _ of [1, 2]) {
        const response = await connection.send(get('/stream')).response();
        expectProblem(response, 500);
        expect(response.header('x-instead')).toBe('1');
        expect(response.header('transfer-encoding')).toBeUndefined();
        expect(response.all('x-guard')).toEqual(['yes']);
        expect(Buffer.from(outcomes.at(-1)?.body ?? []).equals(response.body)).toBe(true);
      }
      expect(outcomes).toMatchObject([{ status: 500 }, { status: 500 }]);
    });

    test.each(['/stream', '/large'])(
      'may have a stream held back until it is whole: %s',
      async (path) => {
        const outcomes: Outcome[] = [];
        const guard: Guard<undefined> = () => ({
          pass: true,
          context: undefined,
          settle: (outcome) => void outcomes.push(outcome),
          streaming: 'buffer',
        });
        const response = await ask({ guard, gate: Promise.resolve() }, get(path));
        expect(response.body.toString()).toBe(path === '/large' ? large : 'first second');
        expect(outcomes).toHaveLength(1);
        expect(Buffer.from(outcomes[0]?.body ?? []).equals(response.body)).toBe(true);
      },
    );

    test('that cannot do without the whole response is not mounted before handlers that stream', async () => {
      const whole: Guard<undefined> = Object.assign(
        settling(() => {}),
        { refusesStreams: true },
      );
      for (const guard of [
        whole,
        chain()
          .use(
            'a',
            settling(() => {}),
          )
          .use('b', whole),
        route('POST', '/pay', whole),
      ]) {
        const mounted = connected({ guard: guard as Guard<unknown>, options: { streams: true } });
        await expect(mounted).rejects.toThrow(/^streams: /);
      }
      expect(
        (await ask({ guard: settling(() => {}), options: { streams: true } }, get('/hello')))
          .status,
      ).toBe(200);
    });

    test.each([
      ['204', get('/empty'), false],
      ['HEAD', 'HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n', true],
    ])('sees an empty body for %s', async (_what, request, head) => {
      const outcomes: Outcome[] = [];
      await ask({ guard: settling((outcome) => void outcomes.push(outcome)) }, request, { head });
      expect(outcomes).toHaveLength(1);
      expect(outcomes[0]?.body).toHaveLength(0);
    });

    test.each([
      ['a failed handler', get('/throw'), 500],
      ['a missing route', get('/nowhere'), 404],
    ])('sees the answer to %s', async (_what, request, status) => {
      const outcomes: Outcome[] = [];
      const response = await ask(
        { guard: settling((outcome) => void outcomes.push(outcome)) },
        request,
      );
      expect(outcomes).toMatchObject([{ status, aborted: false }]);
      expect(Buffer.from(outcomes[0]?.body ?? []).equals(response.body)).toBe(true);
    });

    test('that fails does not keep the response', async () => {
      const told = vi.fn();
      subscribe('countersign:guard:settle-error', told);
      closing.push(() => unsubscribe('countersign:guard:settle-error', told));
      const guard = settling(() => Promise.reject(new Error('store is down')));
      expect((await ask({ guard }, get('/hello'))).body.toString()).toBe('hello');
      expect(told).toHaveBeenCalledOnce();
    });

    test.each([
      ['sees the response', 200, undefined],
      ['sees the answer to the failure', 500, new Error('secret reason')],
    ])('%s of a handler whose caller has gone', async (_what, status, failure) => {
      const gate = promised<void>();
      const began = promised<void>();
      const outcomes: Outcome[] = [];
      const left = promised<void>();
      const guard = chain()
        .use(
          'left',
          looking(({ signal }) => signal.addEventListener('abort', () => left.resolve())),
        )
        .use(
          'settle',
          settling((outcome) => void outcomes.push(outcome)),
        );
      const connection = await connected({ guard, gate: gate.promise, began: began.resolve });
      connection.send(get('/wait'));
      await began.promise;
      connection.close();
      await left.promise;
      expect(outcomes).toEqual([]);
      if (failure) gate.reject(failure);
      else gate.resolve();
      await expect.poll(() => outcomes).toHaveLength(1);
      expect(outcomes).toMatchObject([{ status, aborted: false }]);
      const body = Buffer.from(outcomes[0]?.body ?? []).toString();
      if (failure) expect(JSON.parse(body)).toMatchObject({ type: 'about:blank', status });
      else expect(body).toBe('waited');
    });

    testWhen(
      adapter !== 'node',
      'is told when a handler whose caller has gone never answers',
      async () => {
        const began = promised<void>();
        const outcomes: Outcome[] = [];
        const guard = settling((outcome) => void outcomes.push(outcome));
        const connection = await connected({
          guard,
          options: { abortGraceMs: 1 },
          gate: new Promise(() => {}),
          began: began.resolve,
        });
        connection.send(get('/wait'));
        await began.promise;
        connection.close();
        await expect.poll(() => outcomes).toEqual([{ status: 0, headers: [], aborted: true }]);
      },
    );

    test('runs once for each of the requests of a connection', async () => {
      const statuses: number[] = [];
      const guard = settling(({ status }) => void statuses.push(status));
      const connection = await connected({ guard });
      for (const path of ['/hello', '/nowhere', '/hello']) {
        await connection.send(get(path)).response();
      }
      expect(statuses).toEqual([200, 404, 200]);
    });
  });

  test('streams at once when nothing settles', async () => {
    const gate = promised<void>();
    const connection = await connected({ guard: marking, gate: gate.promise });
    connection.send(get('/stream'));
    await connection.until('first ');
    gate.resolve();
    expect((await connection.response()).body.toString()).toBe('first second');
  });
});
