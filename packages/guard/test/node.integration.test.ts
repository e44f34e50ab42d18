import { once } from 'node:events';
import {
  createServer,
  type RequestListener,
  type ServerOptions,
  type ServerResponse,
} from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterEach, describe, expect, expectTypeOf, test, vi } from 'vitest';
import { chain, type Guard, type HeaderEntry, type Outcome, problem } from '../src/index.ts';
import { type AdapterOptions, type Handler, node } from '../src/node.ts';
import { promised } from './promised.ts';
import { RawConnection } from './raw-connection.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
  vi.restoreAllMocks();
});

async function serve(
  listener: RequestListener,
  on = ['request'],
  options: ServerOptions = {},
): Promise<RawConnection> {
  const server = createServer(options);
  for (const event of on) server.on(event, listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  closing.push(() => server.closeAllConnections());
  const connection = await RawConnection.open((server.address() as AddressInfo).port);
  closing.push(() => connection.close());
  return connection;
}

const outcomes: Outcome[] = [];
const settling: Guard<undefined> = () => ({
  pass: true,
  context: undefined,
  settle: (outcome) => void outcomes.push(outcome),
});
afterEach(() => {
  outcomes.length = 0;
});

/** What a handler sees and does while its response is held back. */
function held(handler: Handler<unknown>, options?: AdapterOptions): Promise<RawConnection> {
  return serve(node(settling, handler, options));
}
const get = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

describe('the handler', () => {
  test('gets the context, typed', async () => {
    const guards = chain().use('who', (): { pass: true; context: string } => ({
      pass: true,
      context: 'alice',
    }));
    const connection = await serve(
      node(guards, (_req, res, context) => {
        expectTypeOf(context.who).toEqualTypeOf<string>();
        res.end(context.who);
      }),
    );
    expect((await connection.send(get).response()).body.toString()).toBe('alice');
  });

  test('that throws at once is answered for', async () => {
    const logged = vi.spyOn(console, 'error').mockImplementation(() => {});
    const connection = await serve(
      node(chain(), () => {
        throw new Error('secret reason');
      }),
    );
    const response = await connection.send(get).response();
    expect(response.status).toBe(500);
    expect(response.body.toString()).not.toContain('secret');
    // Nobody listens to the channel, so it must not vanish.
    expect(logged).toHaveBeenCalledWith('countersign:guard:handler-error:', expect.any(Error));
  });

  test('that fails in the middle of its answer has the connection cut', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const connection = await serve(
      node(chain(), async (_req, res) => {
        res.writeHead(200, { 'content-length': 10 });
        res.write('begun');
        await new Promise(setImmediate);
        throw new Error('secret reason');
      }),
    );
    connection.send(get);
    await connection.closed;
    expect(connection.pending).toContain('begun');
    expect(connection.pending).not.toContain('secret');
  });

  test('whose half-made answer had fields for a body leaves none of them on the 500', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const connection = await serve(
      node(chain(), (_req, res) => {
        res.setHeader('content-encoding', 'gzip');
        res.setHeader('content-length', 3);
        res.setHeader('etag', '"1"');
        throw new Error('no');
      }),
    );
    const response = await connection.send(get).response();
    expect(response.header('content-encoding')).toBeUndefined();
    expect(response.header('etag')).toBeUndefined();
    expect(JSON.parse(response.body.toString())).toMatchObject({ status: 500 });
  });

  describe.each<[string, Guard<unknown>]>([
    ['let go', chain()],
    ['held back', settling],
  ])('whose response is %s and cannot be sent', (_, guard) => {
    test.each<[string, (res: ServerResponse) => void]>([
      ['its status', (res) => Object.assign(res, { statusCode: 1000 })],
      ['its reason', (res) => Object.assign(res, { statusMessage: 'two\nlines' })],
    ])('for %s is answered for, with nothing of it', async (_what, spoil) => {
      vi.spyOn(console, 'error').mockImplementation(() => {});
      const connection = await serve(
        node(guard, async (_req, res) => {
          spoil(res);
          res.end('half an answer');
        }),
      );
      const response = await connection.send(get).response();
      expect(response.status).toBe(500);
      expect(JSON.parse(response.body.toString())).toMatchObject({ status: 500 });
    });
  });

  test.each<[string, Guard<unknown>]>([
    ['let go', chain()],
    ['held back', settling],
  ])('that announces trailers where there can be none is answered for: %s', async (_how, guard) => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const listener = node(guard, async (_req, res) => {
      res.setHeader('trailer', 'x-sum');
      res.write('body');
      res.addTrailers({ 'x-sum': '1' });
      res.end();
    });
    for (const request of [get.replace('GET', 'HEAD'), get.replace('1.1', '1.0')]) {
      const response = await (await serve(listener)).send(request).response({ head: true });
      expect(response.status).toBe(500);
      expect(response.header('trailer')).toBeUndefined();
    }
  });

  test.each<[string, Guard<unknown>]>([
    ['sent', chain()],
    ['held back', settling],
  ])('that fails after its answer is complete leaves it alone: %s', async (_when, guard) => {
    const logged = vi.spyOn(console, 'error').mockImplementation(() => {});
    const connection = await serve(
      node(guard, async (_req, res) => {
        res.end('done');
        throw new Error('too late');
      }),
    );
    const response = await connection.send(get).response();
    expect([response.status, response.body.toString()]).toEqual([200, 'done']);
    expect(logged).toHaveBeenCalledOnce();
  });

  test('may return what it likes, where nobody checks types', async () => {
    const handler: unknown = (_req: unknown, res: ServerResponse) => res.end('done');
    const connection = await held(handler as Handler<unknown>);
    expect((await connection.send(get).response()).body.toString()).toBe('done');
  });

  test('need not answer a caller that has gone: settle is told when it is over', async () => {
    const began = promised<ServerResponse>();
    const over = promised<void>();
    const connection = await held(async (_req, res) => {
      began.resolve(res);
      await over.promise;
    });
    connection.send(get);
    const res = await began.promise;
    const gone = new Promise((resolve) => res.once('close', resolve));
    connection.close();
    await gone;
    await new Promise(setImmediate);
    expect(outcomes).toEqual([]);
    over.resolve();
    await expect.poll(() => outcomes).toEqual([{ status: 0, headers: [], aborted: true }]);
    res.end('too late');
    await new Promise(setImmediate);
    expect(outcomes).toHaveLength(1);
  });

  test('that never ends and is no promise has its grace', async () => {
    const began = promised<void>();
    const connection = await held(() => began.resolve(), { abortGraceMs: 0 });
    connection.send(get);
    await began.promise;
    connection.close();
    await expect.poll(() => outcomes).toMatchObject([{ aborted: true }]);
  });
});

describe('a response that is held back', () => {
  test('behaves as ever for who writes it', async () => {
    const seen: unknown[] = [];
    const connection = await held((_req, res) => {
      seen.push(res.headersSent, res.writableEnded);
      res.writeHead(201, 'Made', { 'x-a': '1' });
      seen.push(res.headersSent, res.writableEnded);
      expect(() => res.setHeader('x-b', '2')).toThrow(/ERR_HTTP_HEADERS_SENT|Cannot set headers/);
      expect(() => res.writeHead(500)).toThrow();
      seen.push(res.write('a'), res.write(new Uint8Array([98])), res.write('YzA=', 'base64'));
      res.end('d');
      seen.push(res.headersSent, res.writableEnded);
      expect(() => res.setHeader('x-b', '2')).toThrow();
    });
    const response = await connection.send(get).response();
    expect(seen).toEqual([false, false, true, false, true, true, true, true, true]);
    expect([response.status, response.body.toString()]).toEqual([201, 'abc0d']);
    expect(response.header('transfer-encoding')).toBe('chunked');
    expect(outcomes).toMatchObject([{ status: 201, headers: [['x-a', '1']] }]);
  });

  test('is framed as it would have been: a length for a body given whole', async () => {
    const connection = await held((_req, res) => void res.end('hello'));
    const response = await connection.send(get).response();
    expect(response.header('content-length')).toBe('5');
    expect(response.header('transfer-encoding')).toBeUndefined();
  });

  test.each([204, 304])('gets no length when it is a %i', async (status) => {
    const connection = await held((_req, res) => void res.writeHead(status).end());
    const response = await connection.send(get).response();
    expect(response.header('content-length')).toBeUndefined();
    expect(outcomes[0]?.body).toHaveLength(0);
  });

  test('keeps its trailers', async () => {
    const connection = await held((_req, res) => {
      res.setHeader('trailer', 'x-sum');
      res.write('a');
      res.addTrailers({ 'x-sum': '1' });
      res.end();
    });
    const response = await connection.send(get).response();
    expect([response.body.toString(), response.trailers]).toEqual(['a', 'x-sum: 1\n']);
  });

  test('calls back: a handler may wait for each of its writes, and for the end', async () => {
    const connection = await held(async (_req, res) => {
      for (const text of ['a', 'b', 'c']) {
        await new Promise<void>((resolve, reject) => {
          res.write(text, (error) => (error ? reject(error) : resolve()));
        });
      }
      await new Promise<void>((resolve) => res.end('d', resolve));
      res.req.socket.end('ended');
    });
    const response = await connection.send(get).response();
    expect(response.body.toString()).toBe('abcd');
    await connection.until('ended');
  });

  test('asks for patience beyond the bound, and says when to go on', async () => {
    const go = promised<void>();
    const steps: unknown[] = [];
    const guard: Guard<undefined> = () => ({
      pass: true,
      context: undefined,
      settle: (outcome) => {
        outcomes.push(outcome);
        return go.promise;
      },
    });
    const handler: Handler<undefined> = async (_req, res) => {
      steps.push(res.write('12345'), res.write('67890'));
      const drained = new Promise((resolve) => res.once('drain', resolve));
      const flushed = new Promise((resolve) => res.write('more', resolve));
      go.resolve();
      await Promise.all([drained, flushed]);
      steps.push('drained');
      res.end('last');
    };
    const connection = await serve(node(guard, handler, { maxSettleBytes: 8 }));
    expect((await connection.send(get).response()).body.toString()).toBe('1234567890morelast');
    expect(steps).toEqual([true, false, 'drained']);
    expect(outcomes).toHaveLength(1);
    expect(outcomes[0]).not.toHaveProperty('body');
  });

  test('ends twice, and is written after its end, as ever', async () => {
    const errors: unknown[] = [];
    const connection = await held(async (_req, res) => {
      res.on('error', (error) => errors.push(error));
      res.end('a');
      res.end((error?: Error) => errors.push(error));
      res.write('b', (error) => errors.push(error));
    });
    expect((await connection.send(get).response()).body.toString()).toBe('a');
    expect(errors).toMatchObject([
      { code: 'ERR_STREAM_ALREADY_FINISHED' },
      { code: 'ERR_STREAM_WRITE_AFTER_END' },
      { code: 'ERR_STREAM_WRITE_AFTER_END' },
    ]);
  });

  test('refuses what cannot be written', async () => {
    const connection = await held((_req, res) => {
      expect(() => res.write(5)).toThrow(TypeError);
      expect(() => res.end({})).toThrow(TypeError);
      res.end();
    });
    expect((await connection.send(get).response()).status).toBe(200);
  });

  test('that node:http refuses to send ends its connection, and crashes nothing', async () => {
    const connection = await held((_req, res) => {
      res.strictContentLength = true;
      res.setHeader('content-length', 3);
      res.end('hello');
    });
    connection.send(get);
    await connection.closed;
    expect(outcomes).toHaveLength(1);
  });

  test('sends its head alone when that is what is flushed', async () => {
    const more = promised<void>();
    const connection = await held(async (_req, res) => {
      res.flushHeaders();
      await more.promise;
      res.end('x');
    });
    connection.send(get);
    await connection.until('\r\n\r\n');
    more.resolve();
    expect((await connection.response()).body.toString()).toBe('x');
  });

  test('lets the events of a stream through when they happen', async () => {
    const more = promised<void>();
    const connection = await held(async (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write('data: 1\n\n');
      await more.promise;
      res.end('data: 2\n\n');
    });
    connection.send(get);
    await connection.until('data: 1');
    more.resolve();
    expect((await connection.response()).body.toString()).toBe('data: 1\n\ndata: 2\n\n');
    expect(outcomes).toHaveLength(1);
  });

  test('takes nothing more of a stream that it answers in place of', async () => {
    const errors: (Error | null | undefined)[] = [];
    const written = promised<void>();
    const guard: Guard<undefined> = () => ({
      pass: true,
      context: undefined,
      settle: (outcome) => void outcomes.push(outcome),
      streaming: () => problem({ status: 500 }),
    });
    const listener = node(guard, async (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream', 'content-length': 100 });
      res.write('data: 1\n\n');
      expect(res.writableEnded).toBe(true);
      for (const settled of [false, true]) {
        if (settled) await once(res, 'close');
        res.write('data: 2\n\n', (error) => errors.push(error));
        res.flushHeaders();
        res.end(() => {});
        res.end('data: 3\n\n', (error?: Error) => errors.push(error));
      }
      written.resolve();
    });
    const connection = await serve(listener);
    await connection.send(get).until('\r\n');
    expect(connection.pending).toMatch(/^HTTP\/1.1 500 Internal Server Error\r\n/);
    const response = await connection.response();
    expect([response.status, response.body.toString()]).toEqual([
      500,
      '{"status":500,"type":"about:blank","title":"Internal Server Error"}',
    ]);
    await written.promise;
    expect(errors).toMatchObject(Array(4).fill({ code: 'ERR_STREAM_DESTROYED' }));
    expect(outcomes).toMatchObject([{ status: 500 }]);
  });

  test('is seen by the innermost guard first, and by all of several chains', async () => {
    const order: string[] = [];
    const named =
      (name: string): Guard<undefined> =>
      () => ({ pass: true, context: undefined, settle: () => void order.push(name) });
    const inner = node(chain().use('c', named('c')), (_req, res) => void res.end('x'));
    const outer = chain().use('a', named('a')).use('b', named('b'));
    const connection = await serve(node(outer, (req, res) => inner(req, res)));
    await connection.send(get).response();
    expect(order).toEqual(['c', 'b', 'a']);
  });

  test('is whatever pieces it was made of', async () => {
    const piece = fc.oneof(fc.string({ unit: 'binary' }), fc.uint8Array({ maxLength: 50 }));
    let next: { pieces: (string | Uint8Array)[]; whole: boolean } = { pieces: [], whole: false };
    const connection = await held(
      (_req, res) => {
        const { pieces, whole } = next;
        for (const part of whole ? pieces.slice(0, -1) : pieces) res.write(part);
        res.end(whole ? pieces.at(-1) : undefined);
      },
      { maxSettleBytes: 100 },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), fc.boolean(), async (pieces, whole) => {
        next = { pieces, whole };
        outcomes.length = 0;
        const sent = Buffer.concat(pieces.map((part) => Buffer.from(part as string)));
        const { body } = await connection.send(get).response();
        expect(body.equals(sent)).toBe(true);
        const [outcome] = outcomes;
        expect(outcomes).toHaveLength(1);
        if (sent.length <= 100) expect(Buffer.from(outcome?.body ?? [1]).equals(sent)).toBe(true);
        else expect(outcome).not.toHaveProperty('body');
      }),
    );
  });
});

describe('header fields', () => {
  const name = fc.constantFrom(
    'Vary',
    'X-A',
    'x-b',
    'Cache-Control',
    'Set-Cookie',
    'Link',
    'Server',
  );
  const field = fc.tuple(name, fc.constantFrom('1', '2', '3'));
  const ways: Record<string, (res: ServerResponse, fields: [string, string][]) => void> = {
    pairs: (res, fields) => res.writeHead(200, fields as never),
    flat: (res, fields) => res.writeHead(200, fields.flat()),
    'flat, with one set before': (res, fields) => {
      res.setHeader('x-set', '0');
      res.writeHead(200, 'Fine', fields.flat());
    },
    object: (res, fields) => res.writeHead(200, grouped(fields)),
    'set before': (res, fields) => {
      for (const [key, value] of Object.entries(grouped(fields))) res.setHeader(key, value);
      res.flushHeaders();
    },
  };
  const single = new Set(['x-a', 'x-b', 'cache-control', 'server']);

  test.each(
    Object.keys(ways).flatMap(
      (way) =>
        [
          [way, false],
          [way, true],
        ] as const,
    ),
  )(
    "given as %s (held back: %s) are merged with the guards' by the same rule",
    async (way, holds) => {
      let given: [string, string][] = [];
      let added: HeaderEntry[] = [];
      const guard: Guard<undefined> = () => ({
        pass: true,
        context: undefined,
        headers: added,
        ...(holds && { settle: (outcome) => void outcomes.push(outcome) }),
      });
      const handler: Handler<undefined> = (_req, res) => {
        ways[way]?.(res, given);
        res.end('x');
      };
      const connection = await serve(node(guard, handler));
      await fc.assert(
        fc.asyncProperty(
          fc.array(field, { maxLength: 6 }),
          fc.array(field, { maxLength: 4 }),
          async (own, guards) => {
            // A field of one line is given once.
            given = own.filter(
              ([key], at) =>
                !single.has(key.toLowerCase()) || own.findIndex(([other]) => other === key) === at,
            );
            added = guards;
            outcomes.length = 0;
            const response = await connection.send(get).response();
            for (const key of [
              'vary',
              'x-a',
              'x-b',
              'cache-control',
              'set-cookie',
              'link',
              'server',
            ]) {
              const values = (list: readonly HeaderEntry[]): string[] =>
                list.filter(([other]) => other.toLowerCase() === key).map(([, value]) => value);
              const mine = key === 'server' ? [] : values(given);
              const theirs = values(guards);
              const replaced = theirs.length > 0 ? theirs.slice(-1) : mine;
              const beside = [
                ...mine,
                ...theirs.filter(
                  (value, at) => !mine.includes(value) && theirs.indexOf(value) === at,
                ),
              ];
              const expected = single.has(key) ? replaced : beside;
              // node:http joins what was set as a list, except for cookies.
              expect([key, response.all(key).join(', ')]).toEqual([key, expected.join(', ')]);
              if (holds) {
                const told = outcomes[0]?.headers.filter(([other]) => other === key) ?? [];
                expect(told.map(([, value]) => value).join(', ')).toBe(expected.join(', '));
              }
            }
          },
        ),
        { numRuns: 60 },
      );
    },
  );

  test('that a handler gives wrongly are its error, and end in a 500 with those of the guards', async () => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const guard: Guard<undefined> = () => ({
      pass: true,
      context: undefined,
      headers: [['x-a', '1']],
    });
    for (const wrong of [['x-odd'], { 'x-b': 'line\nbreak' }, { 'x-b': undefined }]) {
      const connection = await serve(
        node(guard, (_req, res) => void res.writeHead(200, wrong as never).end()),
      );
      const response = await connection.send(get).response();
      expect([response.status, response.header('x-a')]).toEqual([500, '1']);
    }
  });
});

describe('Expect: 100-continue', () => {
  const request = 'POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n';
  const both = ['request', 'checkContinue'];

  test('is not answered with 100 when a guard refuses, and the connection is closed', async () => {
    const connection = await serve(
      node(
        () => problem({ status: 401 }),
        () => {},
      ),
      both,
    );
    const response = await connection.send(request).response({ interim: true });
    expect([response.status, response.header('connection')]).toEqual([401, 'close']);
    await connection.closed;
  });

  test('is answered once, when a guard reads the body', async () => {
    const reader: Guard<string> = async (given) => ({
      pass: true,
      context: Buffer.from(await given.rawBody()).toString(),
    });
    const connection = await serve(
      node(reader, (_req, res, body) => void res.end(body)),
      both,
    );
    expect((await connection.send(request).response({ interim: true })).status).toBe(100);
    const response = await connection.send('hello').response({ interim: true });
    expect([response.status, response.body.toString()]).toEqual([200, 'hello']);
  });

  test("is answered when it is the handler's turn", async () => {
    const connection = await serve(
      node(chain(), (req, res) => void req.pipe(res)),
      both,
    );
    expect((await connection.send(request).response({ interim: true })).status).toBe(100);
    expect((await connection.send('hello').response()).body.toString()).toBe('hello');
  });

  test('is answered once by node:http when the listener is not mounted for it', async () => {
    const connection = await serve(node(chain(), (req, res) => void req.pipe(res)));
    connection.send(request).send('hello');
    expect((await connection.response({ interim: true })).status).toBe(100);
    expect((await connection.response({ interim: true })).body.toString()).toBe('hello');
  });
});

test.each([
  [{ maxBodyBytes: -1 }, /maxBodyBytes/],
  [{ maxBodyBytes: 1.5 }, /maxBodyBytes/],
  [{ maxSettleBytes: Number.NaN }, /maxSettleBytes/],
  [{ abortGraceMs: -1 }, /abortGraceMs/],
  [{ trustedProxies: ['everybody'] }, /trustedProxies/],
  [{ trustProxy: true } as AdapterOptions, /^trustProxy: there is no such option$/],
])('refuses the options %j', (options, message) => {
  expect(() => node(chain(), () => {}, options)).toThrow(message);
});

describe('a server that rejects bodies where HTTP has none', () => {
  const fail = (): never => {
    throw new Error('no');
  };
  test.each<[string, RequestListener]>([
    [
      'a guard refuses',
      node(
        () => problem({ status: 403 }),
        () => {},
      ),
    ],
    ['a handler fails', node(chain(), fail)],
    ['a handler fails whose response is held back', node(settling, fail)],
  ])('answers HEAD when %s', async (_when, listener) => {
    vi.spyOn(console, 'error').mockImplementation(() => {});
    const strict = { rejectNonStandardBodyWrites: true };
    const connection = await serve(listener, ['request'], strict);
    const response = await connection.send(get.replace('GET', 'HEAD')).response({ head: true });
    expect(response.header('content-type')).toBe('application/problem+json');
  });
});

test('refuses to run on HTTP/2, which it would not protect', async () => {
  const refused = promised<unknown>();
  const listener = node(chain(), () => {});
  const server = createHttp2Server((req, res) => {
    try {
      listener(req as never, res as never);
    } catch (error) {
      refused.resolve(error);
      res.end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  closing.push(
    () => server.close(),
    () => client.destroy(),
  );
  client.request().resume();
  expect(await refused.promise).toMatchObject({ code: 'ERR_GUARD_UNSUPPORTED_SERVER' });
});

/** As an object: several values of one name are a list. */
function grouped(
  fields: readonly (readonly [string, string])[],
): Record<string, string | string[]> {
  const object: Record<string, string | string[]> = {};
  for (const [name, value] of fields) {
    const known = object[name];
    object[name] = known === undefined ? value : [known, value].flat();
  }
  return object;
}
