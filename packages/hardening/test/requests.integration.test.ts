import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { globSync, readFileSync } from 'node:fs';
import { chain, type Guard, problem } from '@countersign/guard';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { bodyLimit, correlationId, errorMapper, requestLog } from '../src/guard.ts';
import {
  type AnsweredError,
  HardeningError,
  parseTraceparent,
  type RequestLogEntry,
} from '../src/index.ts';
import { type Application, ask, type Question, type RunningServer, servers } from './servers.ts';

const closing: (() => unknown)[] = [];
const uuid = /^[0-9a-f-]{36}$/;
const traceId = '0af7651916cd43dd8448eb211c80319c';

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => {});
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  vi.restoreAllMocks();
});

function heard<Event>(name: string): Event[] {
  const events: Event[] = [];
  const listen = (event: unknown): void => void events.push(event as Event);
  subscribe(`countersign:hardening:${name}`, listen);
  closing.push(() => unsubscribe(`countersign:hardening:${name}`, listen));
  return events;
}

const banning: Guard<undefined> = ({ headers }) =>
  headers.get('x-banned') ? problem({ status: 403 }) : { pass: true, context: undefined };

describe.each(Object.entries(servers))('%s', (adapter, start) => {
  async function serving(application: Application): Promise<RunningServer> {
    const running = await start(application);
    closing.push(() => running.close());
    return running;
  }

  describe('the id of a request', () => {
    const sent = { 'x-request-id': 'req-1', traceparent: `00-${traceId}-b7ad6b7169203331-01` };
    const guard = chain().use('correlation', correlationId()).use('banning', banning);

    test.each<[string, Question]>([
      ['an answer', {}],
      ['a missing route', { path: '/nowhere' }],
      ['an error', { path: '/throw' }],
      ['a refusal', { headers: { 'x-banned': 'yes' } }],
    ])('is on %s', async (_what, question) => {
      const { port } = await serving({ guard });
      const { headers } = await ask(port, question);
      expect(headers['x-request-id']).toMatch(uuid);
    });

    test('is the one that a trusted proxy sent, and nobody else', async () => {
      const trusting = await serving({ guard, options: { trustedProxies: ['127.0.0.1'] } });
      expect((await ask(trusting.port, { headers: sent })).headers['x-request-id']).toBe('req-1');
      const strict = await serving({ guard, options: { trustedProxies: ['10.0.0.0/8'] } });
      expect((await ask(strict.port, { headers: sent })).headers['x-request-id']).toMatch(uuid);
    });

    test('belongs to the trace that a trusted proxy sent', async () => {
      const traces: unknown[] = [];
      const looking: Guard<undefined, { correlation: { traceparent: string } }> = (_, found) => {
        traces.push(parseTraceparent(found.correlation.traceparent)?.traceId);
        return { pass: true, context: undefined };
      };
      const { port } = await serving({
        guard: chain().use('correlation', correlationId()).use('look', looking),
        options: { trustedProxies: ['127.0.0.1'] },
      });
      await ask(port, { headers: sent });
      await ask(port, { headers: { ...sent, traceparent: `00-${'0'.repeat(32)}-1-01` } });
      expect(traces).toEqual([traceId, expect.not.stringContaining(traceId)]);
    });

    test.each(['a b', '"><script>', 'x'.repeat(65), "';--"])('is not %j', async (id) => {
      const { port } = await serving({ guard, options: { trustedProxies: ['127.0.0.1'] } });
      const { headers, body } = await ask(port, { headers: { 'x-request-id': id } });
      expect(headers['x-request-id']).toMatch(uuid);
      expect(body).not.toContain(id);
    });
  });

  describe('the bound of bodies', () => {
    const octets = { 'content-type': 'application/octet-stream' };
    const post = (body: string | readonly string[]): Question => ({
      method: 'POST',
      path: '/bytes',
      headers: octets,
      body,
    });

    test.each<[string, Question, number, string]>([
      ['within it, with its length', post('x'.repeat(100)), 200, '100'],
      ['within it, in chunks', post(['x'.repeat(50), 'x'.repeat(50)]), 200, '100'],
      ['empty', post(''), 200, '0'],
    ])('lets a body pass that is %s', async (_what, question, status, body) => {
      const { port } = await serving({ guard: bodyLimit({ maxBytes: 100 }) });
      expect(await ask(port, question)).toMatchObject({ status, body });
    });

    test.each<[string, Question]>([
      ['by its length', post('x'.repeat(101))],
      ['in chunks', post(['x'.repeat(50), 'x'.repeat(51)])],
      ['in chunks that never end', post(Array.from({ length: 200 }, () => 'x'.repeat(16_384)))],
    ])('refuses a larger one %s, before the handler', async (_what, question) => {
      const ran = vi.fn();
      const { port } = await serving({ guard: bodyLimit({ maxBytes: 100 }), ran });
      const { status, headers, body } = await ask(port, question);
      expect(status).toBe(413);
      expect(headers['content-type']).toBe('application/problem+json');
      expect(JSON.parse(body)).toMatchObject({ type: 'about:blank', status: 413 });
      expect(ran).not.toHaveBeenCalled();
    });
  });

  describe('the log', () => {
    const guard = chain()
      .use('correlation', correlationId())
      .use(
        'log',
        requestLog<{ correlation: { id: string } }>({
          headers: ['User-Agent', 'Authorization', 'X-Plan'],
          redact: ['x-plan'],
          requestId: ({ correlation }) => correlation.id,
          now: () => 1000,
        }),
      )
      .use('banning', banning);

    test.each<[string, Question, number, boolean]>([
      ['an answer', {}, 200, false],
      ['a missing route', { path: '/nowhere' }, 404, false],
      ['an error', { path: '/throw' }, 500, false],
      ['a refusal', { headers: { 'x-banned': 'yes' } }, 403, true],
    ])('tells of %s', async (_what, question, status, refused) => {
      const entries = heard<RequestLogEntry>('request');
      const { port } = await serving({ guard });
      const answer = await ask(port, question);
      expect(entries).toEqual([
        expect.objectContaining({
          method: 'GET',
          path: question.path ?? '/hello',
          status,
          refused,
          aborted: false,
          startedAtMs: 1000,
          durationMs: 0,
          remoteAddress: '127.0.0.1',
          requestId: answer.headers['x-request-id'],
        }),
      ]);
    });

    test('tells no secret, no body, and no more than it must', async () => {
      const entries = heard<RequestLogEntry>('request');
      const { port } = await serving({ guard });
      const many = Array.from({ length: 100 }, (_, index) => `p${index}=1`).join('&');
      await ask(port, {
        method: 'POST',
        path: `/bytes?access_token=hidden1&page=2&note=Bearer%20hidden2&${many}`,
        headers: {
          'content-type': 'application/octet-stream',
          'user-agent': `u${'x'.repeat(5000)}`,
          authorization: 'Bearer hidden3',
          cookie: 'a=hidden4',
          'x-plan': 'hidden5',
        },
        body: 'hidden6',
      });
      const [entry] = entries;
      expect(JSON.stringify(entry)).not.toMatch(/hidden/);
      expect(JSON.stringify(entry).length).toBeLessThan(3000);
      expect(entry?.query).toHaveLength(50);
      expect(entry?.query[1]).toEqual(['page', '2']);
      expect(Object.keys(entry?.headers ?? {}).sort()).toEqual([
        'authorization',
        'user-agent',
        'x-plan',
      ]);
    });

    test('costs nothing when nobody listens', async () => {
      const now = vi.fn(() => 0);
      const { port } = await serving({ guard: requestLog({ now }) });
      expect((await ask(port)).status).toBe(200);
      expect(now).not.toHaveBeenCalled();
    });
  });

  test('no caller can make the guards fail, or have more than its id sent back', async () => {
    heard('request');
    const { port } = await serving({
      guard: chain()
        .use('correlation', correlationId())
        .use('log', requestLog({ requestId: ({ correlation }) => correlation.id }))
        .use('errors', errorMapper({ requestId: ({ correlation }) => correlation.id }))
        .use('bound', bodyLimit({ maxBytes: 100 })),
      options: { trustedProxies: ['127.0.0.1'] },
    });
    // What HTTP allows in a field value (RFC 9110 §5.5), and in a request target.
    const value = fc
      .array(
        fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f),
        {
          maxLength: 200,
        },
      )
      .map((codes) => `q ${String.fromCharCode(...codes)}z`);
    const query = fc.array(
      fc.constantFrom('a', '=', '&', '%', '%00', '%e0', '+', '[]', ';', 'token='),
    );
    await fc.assert(
      fc.asyncProperty(
        value,
        value,
        value,
        query,
        fc.nat(300),
        async (id, trace, state, parameters, length) => {
          const { status, headers, lines, body } = await ask(port, {
            method: 'POST',
            path: `/bytes?${parameters.join('')}`,
            headers: {
              'content-type': 'application/octet-stream',
              'x-request-id': id,
              traceparent: trace,
              tracestate: state,
              'user-agent': state,
            },
            body: 'x'.repeat(length),
          });
          expect(status).toBe(length <= 100 ? 200 : 413);
          expect(headers['x-request-id']).toMatch(/^[\w-]{1,64}$/);
          expect(JSON.stringify(lines) + body).not.toContain(JSON.stringify(id).slice(1, -1));
        },
      ),
      { numRuns: 60 },
    );
  });

  describe('an error', () => {
    class Declined extends Error {}
    const guard = chain()
      .use('correlation', correlationId())
      .use(
        'errors',
        errorMapper<{ correlation: { id: string } }>({
          requestId: ({ correlation }) => correlation.id,
          map: (error) => {
            if (error instanceof Declined) {
              return { status: 402, type: 'https://example.com/declined', detail: 'No funds.' };
            }
            if (error instanceof RangeError) throw new Error('the mapper fails');
            return undefined;
          },
        }),
      );

    async function answerTo(thrown: unknown): Promise<Record<string, unknown>> {
      const { port } = await serving({ guard, thrown: () => thrown });
      const { status, headers, body } = await ask(port, { path: '/throw' });
      expect(headers['content-type']).toBe('application/problem+json');
      const { requestId, ...told } = JSON.parse(body) as Record<string, unknown>;
      expect(requestId).toBe(headers['x-request-id']);
      expect(told['status']).toBe(status);
      return told;
    }

    const unknown = { type: 'about:blank', title: 'Internal Server Error', status: 500 };

    test.each<[string, unknown]>([
      ['is unknown', new Error('secret reason')],
      ['is no Error', 'secret reason'],
      ['is an object', { secret: 'reason', status: 401 }],
      ['is a service’s that was called', Object.assign(new Error('secret'), { status: 401 })],
      ['has a body of its own', Object.assign(new Error('x'), { response: { data: 'secret' } })],
      ['is one that the mapper fails on', new RangeError('secret reason')],
      ['has a code that nobody knows', Object.assign(new Error('x'), { code: 'constructor' })],
    ])('that %s is a 500 with the id, and nothing else', async (_what, thrown) => {
      expect(await answerTo(thrown)).toEqual(unknown);
    });

    test.each([
      ['ERR_STORE_UNAVAILABLE', 503, 'Service Unavailable'],
      ['ERR_CLIENT_PROBLEM', 502, 'Bad Gateway'],
      ['ERR_CLIENT_DEADLINE_EXCEEDED', 504, 'Gateway Timeout'],
      ['ERR_RATE_LIMIT_DENIED', 429, 'Too Many Requests'],
      ['ERR_IDEMPOTENCY_IN_PROGRESS', 409, 'Conflict'],
    ])('with the code %s is a %i, whatever status it carries', async (code, status, title) => {
      const thrown = Object.assign(new Error('secret reason'), { code, status: 401 });
      expect(await answerTo(thrown)).toEqual({ type: 'about:blank', title, status });
    });

    test('about input names the fields', async () => {
      const errors = [{ pointer: '#/name', code: 'too_big', detail: 'Too long.' }];
      expect(
        await answerTo(new HardeningError('ERR_HARDENING_INPUT_INVALID', 'no', { errors })),
      ).toEqual({
        type: 'about:blank',
        title: 'Bad Request',
        status: 400,
        detail: 'no',
        code: 'ERR_HARDENING_INPUT_INVALID',
        errors,
      });
    });

    test('that is yours says what you say', async () => {
      expect(await answerTo(new Declined())).toEqual({
        type: 'https://example.com/declined',
        title: 'Error',
        status: 402,
        detail: 'No funds.',
      });
    });

    test('is told to whoever listens, with the id', async () => {
      const events = heard<AnsweredError>('error-answered');
      const thrown = new Error('secret reason');
      await answerTo(thrown);
      expect(events).toEqual([
        { status: 500, error: thrown, requestId: expect.stringMatching(uuid) },
      ]);
    });

    // On node:http there is no framework that answers by itself.
    if (adapter !== 'node') {
      test('of the framework’s own keeps its status', async () => {
        const { port } = await serving({ guard });
        const missing = await ask(port, { path: '/nowhere' });
        expect(missing.status).toBe(404);
        expect(JSON.parse(missing.body)).toEqual({
          type: 'about:blank',
          title: 'Not Found',
          status: 404,
          requestId: missing.headers['x-request-id'],
        });
      });
    }

    // Hono has no parser of its own.
    if (adapter === 'express' || adapter === 'fastify') {
      test('of the framework’s parser keeps its status', async () => {
        const { port } = await serving({ guard });
        const json = { 'content-type': 'application/json' };
        const malformed = { method: 'POST', path: '/json', headers: json, body: '{"secret":' };
        const answer = await ask(port, malformed);
        expect(answer.status).toBe(400);
        expect(answer.body).not.toContain('secret');
        expect(JSON.parse(answer.body)).toMatchObject({ title: 'Bad Request', status: 400 });
        const large = { ...malformed, body: JSON.stringify('x'.repeat(2000)) };
        expect((await ask(port, large)).status).toBe(413);
      });
    }
  });
});

test('every code that the error mapper knows is one of a package', () => {
  const codesIn = (path: string): readonly string[] =>
    readFileSync(path, 'utf8').match(/\bERR_[A-Z_]+/g) ?? [];
  const declared = new Set(globSync('packages/*/src/errors.ts').flatMap(codesIn));
  const mapped = codesIn('packages/hardening/src/error-mapper.ts');
  expect(mapped.length).toBeGreaterThan(30);
  expect(mapped.filter((code) => !declared.has(code))).toEqual([]);
});

test('what would not work is refused when it is built', () => {
  expect(() => bodyLimit({ maxBytes: -1 })).toThrow(/maxBytes/);
  expect(() => bodyLimit({ maxByte: 1 } as never)).toThrow(/unknown option "maxByte"/);
  expect(() => requestLog({ redact: 'cookie' } as never)).toThrow(/redact/);
  expect(() => requestLog({ header: [] } as never)).toThrow(/unknown option "header"/);
  expect(() => errorMapper({ mapper: () => undefined } as never)).toThrow(/"mapper"/);
});
