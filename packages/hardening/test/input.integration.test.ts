import { chain, type Guard, type Reply } from '@countersign/guard';
import fc from 'fast-check';
import { afterEach, describe, expect, expectTypeOf, test } from 'vitest';
import * as z from 'zod';
import { bodyLimit, input, upload } from '../src/guard.ts';
import { list, num, page, queryText, text, writable } from '../src/index.ts';
import { ask, type RunningServer, servers } from './servers.ts';

const order = z.object({
  name: text({ max: 50, pattern: /^[a-z]+$/ }),
  amount: num({ min: 0, max: 1000 }),
  lines: list(z.object({ sku: text({ max: 20 }) })).optional(),
});
const good = { name: 'ada', amount: 5, lines: [{ sku: 'x' }] };
const asJson = { 'content-type': 'application/json' };

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

describe.each(Object.entries(servers))('%s', (_adapter, start) => {
  /** Serves a guard, behind it one that answers with what it found. */
  async function serving<Found>(guard: Guard<Found>): Promise<RunningServer> {
    const echo = (_request: unknown, { input: found }: { input: Found }): Reply => ({
      pass: false,
      status: 200,
      headers: [],
      body: JSON.stringify(found),
    });
    const running = await start({ guard: chain().use('input', guard).use('echo', echo) });
    closing.push(() => running.close());
    return running;
  }

  test('lets a body pass that fits its schema, as the schema makes it', async () => {
    const { port } = await serving(input(order));
    const post = { method: 'POST', path: '/json' };
    const body = JSON.stringify({ ...good, name: ' ada ' });
    for (const type of [
      'application/json',
      'Application/JSON; charset=UTF-8',
      'application/vnd.order+json',
      'application/vnd.api+json; profile="https://example.com/a"',
      'application/json;odata=minimal;charset="utf-8"',
    ]) {
      const answer = await ask(port, { ...post, headers: { 'content-type': type }, body });
      expect(answer.status).toBe(200);
      expect(JSON.parse(answer.body)).toEqual(good);
    }
    const inChunks = await ask(port, {
      ...post,
      headers: asJson,
      body: [body.slice(0, 9), body.slice(9)],
    });
    expect(JSON.parse(inChunks.body)).toEqual(good);
  });

  test('answers with a problem that names fields, and no values', async () => {
    const { port } = await serving(input(order));
    const sent = { name: 'SECRET', amount: 4711, lines: [{ sku: 'x', price: 0 }], isAdmin: true };
    const answer = await ask(port, {
      method: 'POST',
      path: '/json',
      headers: asJson,
      body: JSON.stringify(sent),
    });
    expect(answer.status).toBe(400);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(JSON.parse(answer.body)).toEqual({
      type: 'about:blank',
      title: 'Bad Request',
      status: 400,
      detail: 'The input is not what it must be.',
      code: 'ERR_HARDENING_INPUT_INVALID',
      errors: [
        {
          pointer: '#/name',
          code: 'invalid_format',
          detail: 'does not have the form it must have',
        },
        { pointer: '#/amount', code: 'too_big', detail: 'must be at most 1000' },
        { pointer: '#/lines/0/price', code: 'unrecognized_keys', detail: 'is not known' },
        { pointer: '#/isAdmin', code: 'unrecognized_keys', detail: 'is not known' },
      ],
    });
    expect(answer.body).not.toMatch(/SECRET|4711/);
  });

  test.each([
    ['a form', { 'content-type': 'application/x-www-form-urlencoded' }, '{}', 415, 'MEDIA_TYPE'],
    ['plain text', { 'content-type': 'text/plain' }, '{}', 415, 'MEDIA_TYPE'],
    ['no type', {}, '{}', 415, 'MEDIA_TYPE'],
    [
      'another charset',
      { 'content-type': 'application/json; charset=utf-7' },
      '{}',
      415,
      'MEDIA_TYPE',
    ],
    [
      'another charset, hidden',
      { 'content-type': 'application/json; a="x"; charset = utf-16' },
      '{}',
      415,
      'MEDIA_TYPE',
    ],
    [
      'two charsets',
      { 'content-type': 'application/json; charset=utf-8; charset=utf-7' },
      '{}',
      415,
      'MEDIA_TYPE',
    ],
    [
      'a type that only begins so',
      { 'content-type': 'application/jsonp' },
      '{}',
      415,
      'MEDIA_TYPE',
    ],
    [
      'a type that only ends so',
      { 'content-type': 'text/plain; application/json' },
      '{}',
      415,
      'MEDIA_TYPE',
    ],
    ['a coding', { ...asJson, 'content-encoding': 'gzip' }, '{}', 415, 'MEDIA_TYPE'],
    ['no JSON', asJson, '{"name":', 400, 'MALFORMED'],
    ['nothing', asJson, '', 400, 'MALFORMED'],
    ['a name twice', asJson, '{"name":"a","name":"b"}', 400, 'MALFORMED'],
    ['__proto__', asJson, '{"__proto__":{"isAdmin":true}}', 400, 'MALFORMED'],
    ['20,000 levels', asJson, '['.repeat(20_000), 400, 'TOO_DEEP'],
    ['5,000 keys', asJson, keys(5000), 400, 'TOO_MANY_KEYS'],
    ['100,000 keys', asJson, keys(100_000), 413, 'TOO_LARGE'],
    ['1e400', asJson, '{"name":"a","amount":1e400}', 400, 'INVALID'],
  ])('refuses %s', async (_, headers, body, status, code) => {
    const { port } = await serving(input(order));
    const answer = await ask(port, { method: 'POST', path: '/json', headers, body });
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.body)).toMatchObject({ status, code: `ERR_HARDENING_INPUT_${code}` });
    expect(answer.body.length).toBeLessThan(1000);
  });

  test('stops reading what comes in chunks where it is too large', async () => {
    const { port } = await serving(input(order, { maxBytes: 100 }));
    const post = { method: 'POST', path: '/json', headers: asJson };
    const answer = await ask(port, { ...post, body: ['{"name":"', 'x'.repeat(50_000), '"}'] });
    expect(answer.status).toBe(413);
    expect(JSON.parse(answer.body)).toEqual({
      type: 'about:blank',
      title: 'Content Too Large',
      status: 413,
      detail: 'The input is larger than is taken here.',
      code: 'ERR_HARDENING_INPUT_TOO_LARGE',
    });
  });

  test('reads a query', async () => {
    const { port } = await serving(input(page().extend({ q: queryText() }), { from: 'query' }));
    const answer = await ask(port, { path: '/hello?q=a%20b&size=5' });
    expect(JSON.parse(answer.body)).toEqual({ q: 'a b', size: 5 });
    for (const query of [
      'q=a&q=b',
      'q=a&size=101',
      'q=a&size=',
      'q=a&x=1',
      `q=${'a'.repeat(501)}`,
      '',
    ]) {
      expect((await ask(port, { path: `/hello?${query}` })).status).toBe(400);
    }
  });

  test('takes a file of its declared type', async () => {
    const { port } = await serving(upload({ maxBytes: 100 }));
    const post = { method: 'POST', path: '/bytes' };
    const headers = { 'content-type': 'application/pdf' };
    expect((await ask(port, { ...post, headers, body: '%PDF-1.7\n' })).status).toBe(200);
    const named = { 'content-type': 'Application/PDF; name="a.pdf"' };
    const answer = await ask(port, { ...post, headers: named, body: '%PDF-1.7' });
    expect(JSON.parse(answer.body)).toMatchObject({ type: 'application/pdf' });
    expect((await ask(port, { ...post, headers, body: '<html>' })).status).toBe(400);
    expect((await ask(port, { ...post, headers, body: `%PDF-${'x'.repeat(100)}` })).status).toBe(
      413,
    );
    const inChunks = await ask(port, { ...post, headers, body: ['%PDF-', 'x'.repeat(100)] });
    expect(inChunks.status).toBe(413);
    expect(JSON.parse(inChunks.body)).toMatchObject({ code: 'ERR_HARDENING_INPUT_TOO_LARGE' });
    const asText = { 'content-type': 'text/html' };
    expect((await ask(port, { ...post, headers: asText, body: '<html>' })).status).toBe(400);
  });

  test('sets only what may be set', async () => {
    const user = z.object({ name: text(), role: z.enum(['user', 'admin']) });
    const { port } = await serving(input(writable(user, ['name'])));
    const body = '{"name":"Ada","role":"admin"}';
    const answer = await ask(port, { method: 'POST', path: '/json', headers: asJson, body });
    expect(answer.status).toBe(400);
    expect(JSON.parse(answer.body)).toMatchObject({
      errors: [{ pointer: '#/role', code: 'privileged' }],
    });
  });

  test('answers bad input with 4xx, whatever it is, and briefly', async () => {
    const { port } = await serving(
      chain()
        .use('limit', bodyLimit({ maxBytes: 5000 }))
        .use('order', input(order)),
    );
    const bodies = fc.oneof(
      fc.json(),
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc
        .array(
          fc.constantFrom(
            ...'{}[],:"\\'.split(''),
            '"name":',
            '"amount":',
            '"a"',
            '1',
            '\0',
            '\ud800',
          ),
          { maxLength: 20 },
        )
        .map((pieces) => pieces.join('')),
      fc
        .dictionary(fc.string(), fc.anything())
        .map(
          (value) =>
            JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? 0 : part)) ??
            '',
        ),
    );
    await fc.assert(
      fc.asyncProperty(bodies, async (body) => {
        const answer = await ask(port, { method: 'POST', path: '/json', headers: asJson, body });
        expect(answer.status).toBeGreaterThanOrEqual(400);
        expect(answer.status).toBeLessThan(500);
        expect(answer.body.length).toBeLessThan(4000);
      }),
      { numRuns: 100 },
    );
  });
});

test('a query needs an object, which is found out at the start', () => {
  expect(() => input(text(), { from: 'query' })).toThrow('a query needs a schema of an object');
});

test('the guard says what it found', () => {
  const guards = chain().use('order', input(order));
  expectTypeOf(guards).toExtend<
    Guard<{ order: { name: string; amount: number; lines?: { sku: string }[] | undefined } }>
  >();
});

test.each([{ from: 'cookie' }, { maxByte: 5 }])('cannot be built with %j', (options) => {
  expect(() => input(order, options as never)).toThrow(TypeError);
});

function keys(count: number): string {
  return JSON.stringify(
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, 1])),
  );
}
