import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { chain, type Guard, type GuardRequest, problem, type Reply } from '@countersign/guard';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, expectTypeOf, test } from 'vitest';
import * as z from 'zod';
import { answer, endpoint, endpoints, input, owner, refuse } from '../src/guard.ts';
import { num, output, text } from '../src/index.ts';

const identity: Guard<{ readonly id: string }> = () => ({ pass: true, context: { id: 'alice' } });
const guards = chain().use('principal', identity);
const Payment = z.object({ id: z.string(), amount: z.int() });
const payment = { id: 'p1', amount: 42, owner: 'alice', card: '4111' };

function asking(method: string, path: string, body?: string): GuardRequest {
  const headers = new Map([['content-type', 'application/json']]);
  const [pathname = '', search = ''] = path.split('?');
  return {
    method,
    path: pathname,
    query: new URLSearchParams(search),
    headers: {
      get: (name) => headers.get(name),
      all: (name) => [headers.get(name) ?? []].flat(),
    },
    remoteAddress: '127.0.0.1',
    secure: true,
    signal: new AbortController().signal,
    rawBody: () => Promise.resolve(Buffer.from(body ?? '')),
  };
}

async function replyOf(guard: Guard<undefined>, request: GuardRequest): Promise<Reply | 'passed'> {
  const verdict = await guard(request, {});
  return verdict.pass ? 'passed' : verdict;
}

const show = endpoint({
  method: 'GET',
  path: '/payments/:id',
  guards,
  owner: owner((_request, { params }: { params: { id: string }; principal: { id: string } }) =>
    params.id === 'p1' ? { owner: 'alice', resource: payment } : undefined,
  ),
  output: output(Payment),
  handler: (_input, { resource }) => resource,
});

let mismatches: unknown[] = [];
const note = (event: unknown) => void mismatches.push(event);
beforeEach(() => {
  mismatches = [];
  subscribe('countersign:hardening:output-mismatch', note);
});
afterEach(() => {
  unsubscribe('countersign:hardening:output-mismatch', note);
});

describe('an endpoint', () => {
  test('answers its route with what the schema declares', async () => {
    expect(await replyOf(show, asking('GET', '/payments/p1'))).toEqual({
      pass: false,
      status: 200,
      headers: [['content-type', 'application/json']],
      body: '{"id":"p1","amount":42}',
      handled: {},
    });
  });

  test('lets everything else pass', async () => {
    for (const [method, path] of [
      ['POST', '/payments/p1'],
      ['get', '/payments/p1'],
      ['GET', '/payments'],
      ['GET', '/payments/'],
      ['GET', '/payments/p1/'],
      ['GET', '//payments/p1'],
      ['GET', '/Payments/p1'],
      ['GET', '/%70ayments/p1'],
      ['GET', '/payments/p1;x'.replace(';', '/')],
      ['GET', '/payments/%'],
      ['GET', '/payments/%2e%2e'],
      ['GET', '/payments/a%2Fb'],
      ['GET', '/payments/a%00'],
      ['GET', `/payments/${'x'.repeat(257)}`],
    ] as const) {
      expect(await replyOf(show, asking(method, path)), `${method} ${path}`).toBe('passed');
    }
  });

  test('answers HEAD as GET', async () => {
    expect(await replyOf(show, asking('HEAD', '/payments/p1'))).toMatchObject({ status: 200 });
  });

  test('refuses whoever is not the owner, and that is none of the handler’s answers', async () => {
    const reply = await replyOf(show, asking('GET', '/payments/p2'));
    expect(reply).toMatchObject({ status: 404 });
    expect(reply).not.toHaveProperty('handled');
  });

  test('gives its handler the input, the parameters and what the guards found, typed', async () => {
    const update = endpoint({
      method: 'POST',
      path: '/accounts/:account/payments/:id',
      guards: guards.use('limit', () => ({ pass: true, context: 5 })),
      input: input(z.object({ note: text() })),
      owner: owner((_request, context: { input: { note: string }; principal: { id: string } }) =>
        context.input.note === 'hi' ? { owner: 'alice', resource: payment } : undefined,
      ),
      output: output(z.object({ seen: z.string() })),
      handler: (body, context, request) => {
        expectTypeOf(body).toEqualTypeOf<{ note: string }>();
        expectTypeOf(context.params).toEqualTypeOf<{
          readonly account: string;
          readonly id: string;
        }>();
        expectTypeOf(context.principal).toEqualTypeOf<{ readonly id: string }>();
        expectTypeOf(context.limit).toEqualTypeOf<number>();
        expectTypeOf(context.resource).toEqualTypeOf<typeof payment>();
        const { principal, params, limit, resource } = context;
        return {
          seen: JSON.stringify([body, principal.id, params, limit, resource.id, request.route]),
        };
      },
    });
    const reply = await replyOf(
      update,
      asking('POST', '/accounts/a%20b/payments/p1', '{"note":"hi"}'),
    );
    expect(JSON.parse(JSON.parse((reply as Reply).body as string).seen)).toEqual([
      { note: 'hi' },
      'alice',
      { account: 'a b', id: 'p1' },
      5,
      'p1',
      '/accounts/:account/payments/:id',
    ]);
  });

  test('holds its handler to the type of its output', () => {
    endpoint({
      method: 'GET',
      path: '/x',
      guards,
      public: { owner: 'everybody may know x' },
      output: output(Payment),
      // @ts-expect-error the amount is missing
      handler: () => ({ id: 'p1' }),
    });
    endpoint({
      method: 'GET',
      path: '/x',
      guards,
      // @ts-expect-error nobody found out a subscription
      owner: owner((_request, context: { principal: string; plan: string }) => context.plan),
      output: output(Payment),
      handler: () => payment,
    });
  });

  test('knows what the chain around it found out, where its own guards say that they need it', async () => {
    const inner = endpoint({
      method: 'GET',
      path: '/x',
      guards: chain<{ readonly correlation: string }>().use('principal', identity),
      public: { owner: 'x is everybody’s' },
      output: output(z.string()),
      handler: (_input, { correlation }) => {
        expectTypeOf(correlation).toEqualTypeOf<string>();
        return correlation;
      },
    });
    const found = chain().use('correlation', () => ({ pass: true, context: 'r1' as string }));
    const whole = found.use('api', endpoints([inner]));
    expect(await whole(asking('GET', '/x'), {})).toMatchObject({ body: '"r1"' });
    // @ts-expect-error nobody found out a correlation
    chain().use('api', endpoints([inner]));
  });

  test('gives its handler neither input nor resource of somebody else’s', async () => {
    let given: readonly unknown[] = [];
    const inner = endpoint({
      method: 'GET',
      path: '/x',
      guards: chain(),
      public: 'x is everybody’s',
      handler: (body, context) => {
        given = [body, context.resource, context.params];
        return null;
      },
    });
    const whole = chain()
      .use('input', () => ({ pass: true, context: 'unchecked' }))
      .use('resource', () => ({ pass: true, context: 'not asked for' }))
      .use('api', endpoints([inner]));
    expect(await whole(asking('GET', '/x'), {})).toMatchObject({ status: 200 });
    expect(given).toEqual([undefined, undefined, {}]);
  });

  test('reads a query as it reads a body', async () => {
    const list = endpoint({
      method: 'GET',
      path: '/payments',
      guards,
      input: input(z.object({ limit: num({ min: 1, max: 100, integer: true, from: 'text' }) }), {
        from: 'query',
      }),
      public: { owner: 'lists the payments of the caller' },
      output: output(z.array(Payment)),
      handler: ({ limit }) => Array(limit).fill(payment),
    });
    expect(await replyOf(list, asking('GET', '/payments?limit=2'))).toMatchObject({
      body: '[{"id":"p1","amount":42},{"id":"p1","amount":42}]',
    });
    const refused = await replyOf(list, asking('GET', '/payments?limit=1000'));
    expect(refused).toMatchObject({ status: 400 });
    expect(refused).not.toHaveProperty('handled');
  });
});

describe('a handler', () => {
  const answering = (result: () => unknown) =>
    endpoint({
      method: 'POST',
      path: '/x',
      guards,
      public: { owner: 'x is everybody’s' },
      output: output(Payment.optional()),
      handler: result as () => undefined,
    });
  const replyTo = (result: () => unknown) => replyOf(answering(result), asking('POST', '/x'));

  test('may say the status and headers of its result, which is held to the schema all the same', async () => {
    const created = () => answer(payment, { status: 201, headers: [['location', '/payments/p1']] });
    expect(await replyTo(created)).toMatchObject({
      status: 201,
      headers: [
        ['content-type', 'application/json'],
        ['location', '/payments/p1'],
      ],
      body: '{"id":"p1","amount":42}',
    });
    expect(await replyTo(() => answer({ id: 1 }, { status: 201 }))).toMatchObject({ status: 500 });
  });

  test('may have nothing to say', async () => {
    const reply = await replyTo(() => undefined);
    expect(reply).toMatchObject({ status: 204, headers: [] });
    expect(reply).not.toHaveProperty('body');
  });

  test('may refuse', async () => {
    const reply = await replyTo(() => refuse(problem({ status: 409, title: 'Paid already' })));
    expect(reply).toMatchObject({ status: 409, handled: {} });
  });

  test.each([
    ['a reply', { pass: false, status: 200, headers: [], body: 'secret' }],
    ['a refusal', { reply: { pass: false, status: 400, headers: [], body: 'secret' } }],
    ['an answer', { result: 'secret', options: { status: 200 } }],
  ])('cannot be made to send %s that came from elsewhere', async (_name, forged) => {
    const reply = (await replyTo(() => forged)) as Reply;
    expect(reply.status).toBe(500);
    expect(reply.body).not.toContain('secret');
  });

  test('that returns what is not in the schema: a 500 that says nothing, and an event that says where', async () => {
    const reply = await replyTo(() => Promise.resolve({ id: 'p1', amount: 'secret' }));
    expect(reply).toMatchObject({
      status: 500,
      headers: [['content-type', 'application/problem+json']],
      body: '{"type":"about:blank","title":"Internal Server Error","status":500}',
      handled: { error: { code: 'ERR_HARDENING_OUTPUT_MISMATCH' } },
    });
    expect(mismatches).toEqual([
      {
        method: 'POST',
        route: '/x',
        errors: [expect.objectContaining({ pointer: '#/amount', code: 'invalid_type' })],
      },
    ]);
  });

  test.each([
    [new Error('secret')],
    ['secret'],
    [undefined],
    [null],
    [problem({ status: 418, detail: 'secret' })],
  ])('that throws: a 500 that says nothing, marked as the handler’s failure', async (thrown) => {
    const reply = (await replyTo(() => {
      throw thrown;
    })) as Reply;
    expect(reply.status).toBe(500);
    expect(reply.body).not.toContain('secret');
    expect(reply.handled?.error).toBeDefined();
    expect(mismatches).toEqual([]);
  });

  test('sends what it likes where a reason says why there is no schema', async () => {
    const file = endpoint({
      method: 'GET',
      path: '/logo',
      guards,
      public: { owner: 'the logo is everybody’s', output: 'a picture' },
      handler: () => answer(Buffer.from('png'), { headers: [['Content-Type', 'image/png']] }),
    });
    expect(await replyOf(file, asking('GET', '/logo'))).toMatchObject({
      status: 200,
      headers: [['Content-Type', 'image/png']],
      body: Buffer.from('png'),
    });
  });

  test('makes no answer of an error’s status, and no refusal of a success’s', () => {
    expect(() => answer(1, { status: 500 })).toThrow(TypeError);
    expect(() => answer(1, { status: 101 })).toThrow(TypeError);
    expect(() => answer(1, { code: 201 } as never)).toThrow('unknown option "code"');
    expect(() => refuse({ ...problem({ status: 400 }), status: 200 })).toThrow(TypeError);
    expect(() => refuse(undefined as never)).toThrow(TypeError);
  });
});

test.each([
  [[['location', '/a\r\nset-cookie: b=c']]],
  [[['set-cookie: b=c\r\nlocation', '/a']]],
  [[['location', undefined]]],
  [{ location: '/a' }],
])('headers %j cannot be sent, which the handler is told', (headers) => {
  expect(() => answer(1, { headers: headers as never })).toThrow(TypeError);
  expect(() => refuse({ ...problem({ status: 409 }), headers: headers as never })).toThrow(
    TypeError,
  );
});

describe('at start-up', () => {
  const whole = {
    method: 'GET',
    path: '/x/:id',
    guards,
    owner: owner(() => 'alice'),
    output: output(z.undefined()),
    handler: () => undefined,
  };
  const without = (...names: string[]) =>
    Object.fromEntries(Object.entries(whole).filter(([name]) => !names.includes(name)));
  const build = (options: object) => () => endpoint(options as never);

  test.each([
    ['authentication', { ...whole, guards: chain() }],
    ['authentication', { ...whole, guards: chain().use('principle', identity) }],
    ['owner', without('owner')],
    ['output', without('output')],
    ['output', { ...without('output'), public: '' }],
    ['output', { ...without('output'), public: ' ' }],
    ['output', { ...without('output'), public: true }],
    ['output', { ...without('output'), public: { output: true } }],
    ['output', { ...without('output'), public: { owner: 'why' } }],
    ['owner', { ...without('owner', 'output'), public: { output: 'why' } }],
  ])('an endpoint without %s fails', (what, options) => {
    expect(build(options)).toThrow(TypeError);
    expect(build(options)).toThrow(`endpoint GET /x/:id: no ${what}.`);
  });

  test.each([
    [{ ...without('owner', 'output'), guards: chain(), public: 'a health check' }],
    [{ ...without('owner'), public: { owner: 'why' } }],
    [{ ...whole, guards: chain().use('caller', identity), authentication: 'caller' }],
  ])('one that says why starts', (options) => {
    expect(build(options)).not.toThrow();
  });

  test.each([
    [{ ...whole, public: 'there was a reason once' }, 'nothing is missing'],
    [
      { ...without('owner'), public: { owner: 'why', output: 'why' } },
      'nothing is missing of output',
    ],
    [
      { ...without('owner'), public: { owner: 'why', ouput: 'why' } },
      'nothing is missing of ouput',
    ],
    [{ ...whole, authentication: 'caller' }, 'there is no guard named "caller"'],
    [{ ...whole, guards: identity }, 'guards: expected a chain()'],
    [{ ...whole, guards: undefined }, 'guards: expected a chain()'],
    [{ ...whole, guards: guards.use('params', identity) }, '"params" are those of the path'],
    [{ ...whole, guards: guards.use('resource', identity) }, 'there is a guard named "resource"'],
    [{ ...whole, method: 'get' }, 'method: expected one in upper case'],
    [{ ...whole, method: 'HEAD' }, 'method: expected one in upper case'],
    [{ ...whole, path: 'x' }, 'path: expected a path'],
    [{ ...whole, path: '/x/*' }, 'path: expected a path'],
    [{ ...whole, path: '/:a/:a' }, 'path: expected a path'],
    [{ ...whole, path: '/:__proto__' }, 'path: expected a path'],
    [{ ...whole, handler: undefined }, 'handler: expected a function'],
    [{ ...whole, owner: () => 'alice' }, 'owner: expected owner(…) or ability(…)'],
    [{ ...whole, output: z.string() }, 'output: expected output(schema)'],
    [{ ...whole, input: z.string() }, 'input: expected a guard'],
    [{ ...whole, outputs: 1 }, 'unknown option "outputs"'],
  ])('a mistake in the options fails: %#', (options, message) => {
    expect(build(options)).toThrow(TypeError);
    expect(build(options)).toThrow(message);
  });
});

describe('endpoints side by side', () => {
  const health = endpoint({
    method: 'GET',
    path: '/health',
    guards: chain(),
    public: 'a load balancer asks',
    output: output(z.object({ ok: z.boolean() })),
    handler: () => ({ ok: true }),
  });
  const api = endpoints([show, health]);

  test('are answered by the one a request fits', async () => {
    expect(await replyOf(api, asking('GET', '/health'))).toMatchObject({ body: '{"ok":true}' });
    expect(await replyOf(api, asking('GET', '/payments/p1'))).toMatchObject({ status: 200 });
    expect(await replyOf(api, asking('GET', '/other'))).toBe('passed');
  });

  test('describe what protects each of them, as data', () => {
    expect(JSON.parse(JSON.stringify(api.describe()))).toEqual([
      {
        method: 'GET',
        path: '/payments/:id',
        guards: ['principal'],
        authentication: 'principal',
        owner: { kind: 'owner', refuseWith: 404, roles: [] },
        input: null,
        output: ['#/id', '#/amount'],
        public: {},
      },
      {
        method: 'GET',
        path: '/health',
        guards: [],
        authentication: null,
        owner: null,
        input: null,
        output: ['#/ok'],
        public: { authentication: 'a load balancer asks', owner: 'a load balancer asks' },
      },
    ]);
  });

  test.each(['/payments/:payment', '/payments/mine'])('can all be reached: %s', (path) => {
    const later = endpoint(whole(path));
    expect(() => endpoints([show, later])).toThrow(
      `endpoints: GET ${path} would never be reached behind GET /payments/:id`,
    );
    const other = endpoint({ ...whole(path), method: 'DELETE' });
    expect(() => endpoints([show, other])).not.toThrow();
  });

  test('may answer what a later one would answer too', () => {
    expect(() => endpoints([endpoint(whole('/payments/mine')), show])).not.toThrow();
    expect(() => endpoints([show, endpoint(whole('/refunds/:id'))])).not.toThrow();
    expect(() => endpoints([show, endpoint(whole('/payments/:id/mine'))])).not.toThrow();
    expect(() => endpoints([show, endpoint(whole('/payments'))])).not.toThrow();
  });

  function whole(path: string) {
    return {
      method: 'GET',
      path,
      guards,
      public: { owner: 'why' },
      output: output(z.undefined()),
      handler: () => undefined,
    };
  }
});

test('no request crashes an endpoint, whatever its path and body', async () => {
  const echo = endpoint({
    method: 'POST',
    path: '/echo/:word',
    guards,
    input: input(z.object({ word: text({ max: 20 }) })),
    public: { owner: 'nobody owns an echo' },
    output: output(z.object({ word: z.string(), param: z.string() })),
    handler: ({ word }, { params }) => ({ word, param: params.word }),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string(),
        fc.webPath(),
        fc.string().map((word) => `/echo/${word}`),
      ),
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.string().map((word) => JSON.stringify({ word })),
      ),
      async (path, body) => {
        const reply = await replyOf(echo, asking('POST', path, body));
        if (reply !== 'passed') expect([200, 400]).toContain(reply.status);
      },
    ),
  );
});
