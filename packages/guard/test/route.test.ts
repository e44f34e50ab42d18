import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { chain, type Guard, type GuardRequest, problem, route } from '../src/index.ts';

const applied: Guard<string> = (request) => ({ pass: true, context: request.route ?? 'unknown' });
const ask = (guard: Guard<unknown>, method: string, path: string, given?: string): unknown => {
  const request = { method, path, ...(given && { route: given }) } as GuardRequest;
  const verdict = guard(request, {});
  if ('then' in verdict || !verdict.pass) throw new Error('not passed');
  return verdict.context;
};
const policy = route('POST', '/payments/:id', applied);

describe('route', () => {
  test('runs its guard when method and path match, and tells it the route', () => {
    expect(ask(policy, 'POST', '/payments/42')).toBe('/payments/:id');
  });

  test.each([
    ['GET', '/payments/42'],
    ['POST', '/payments'],
    ['POST', '/payments/42/refunds'],
    ['POST', '/payment/42'],
    ['POST', '/'],
    ['OPTIONS', '/payments/42'],
  ])('lets %s %s pass with an undefined context', (method, path) => {
    expect(ask(policy, method, path)).toBeUndefined();
  });

  test.each([
    '/payments/42/',
    '//payments//42',
    '/Payments/42',
    '/PAYMENTS/42',
    '/%70ayments/42',
    '/%2570ayments/42',
    '/payments%2F42',
    '/payments/a%2Fb',
    '/payments/%E0%A4%A',
    '/./payments/42',
    '/x/../payments/42',
    '/x/%2e%2e/payments/42',
    '/x/%2E./payments/42',
    '/x//../payments/42',
    '/payments/42//..',
    '/payments/x/%2E%2e/42',
    '/payments/42;session=1',
    '/payments;v=1/42',
    '/payments\\42',
    '/payments%5c42',
    '/pay\tments/42',
    '/payments/42%20',
    '/payments/42#fragment',
    '/payments/42%3Fa=b',
    '/payments/42%00',
  ])('matches the spelling %s', (path) => {
    expect(ask(policy, 'POST', path)).toBe('/payments/:id');
  });

  test('matches when the framework says that this is the route', () => {
    expect(ask(policy, 'POST', '/rewritten', '/payments/:id')).toBe('/payments/:id');
  });

  test('takes several methods, all of them, and HEAD for GET', () => {
    expect(ask(route(['PUT', 'PATCH'], '/a', applied), 'PATCH', '/a')).toBe('/a');
    expect(ask(route('*', '/a', applied), 'DELETE', '/a')).toBe('/a');
    expect(ask(route('GET', '/a', applied), 'HEAD', '/a')).toBe('/a');
    expect(ask(route('HEAD', '/a', applied), 'GET', '/a')).toBeUndefined();
  });

  test.each([
    ['/files/*', '/files/a/b', true],
    ['/files/*', '/files', true],
    ['/files/*', '/file', false],
    ['/*', '/', true],
    ['/', '/', true],
    ['/', '/a', false],
  ])('%s and %s: %s', (pattern, path, matches) => {
    expect(ask(route('*', pattern, applied), 'GET', path)).toBe(matches ? pattern : undefined);
  });

  test.each([
    'payments',
    '',
    '/a/*/b',
    '/a*',
    '/v:version',
    '/:id?',
    '/{a}',
    '/(a|b)',
    '/:id{[0-9]+}',
  ])('refuses the pattern "%s", which it would not understand', (pattern) => {
    expect(() => route('GET', pattern, applied)).toThrow(TypeError);
  });

  test.each(['get', '', 'POST /a'])('refuses the method "%s"', (method) => {
    expect(() => route(method, '/a', applied)).toThrow(TypeError);
  });

  test('refuses no methods', () => {
    expect(() => route([], '/a', applied)).toThrow(TypeError);
  });

  test('is never skipped by a spelling', () => {
    const letter = fc.constantFrom(...'abyz019-_.~'.split(''));
    const segment = fc
      .string({ unit: letter, minLength: 1, maxLength: 8 })
      .filter((text) => !/^\.+$/.test(text));
    const spelled = (text: string): fc.Arbitrary<string> =>
      fc
        .array(fc.constantFrom('plain', 'upper', 'encoded', 'twice'), {
          minLength: text.length,
          maxLength: text.length,
        })
        .map((ways) =>
          text
            .split('')
            .map((char, at) => spell(char, ways[at]))
            .join(''),
        );
    const slash = fc.constantFrom(
      '/',
      '//',
      '/./',
      '\\',
      '%2f',
      '%2F',
      '/x/../',
      '/x/%2e%2E/',
      ';a=b/',
    );
    const tail = fc.constantFrom('', '/', '//', ';jsession=1', '/.', '/./', '%20', '%2f');
    const request = fc
      .tuple(segment, segment, segment)
      .chain(([first, id, last]) =>
        fc.tuple(
          fc.constant(`/${first}/:id/${last}`),
          fc.tuple(slash, spelled(first), slash, spelled(id), slash, spelled(last), tail),
        ),
      );
    fc.assert(
      fc.property(request, ([pattern, parts]) => {
        const path = `/${parts.join('')}`;
        // A parameter of a route may not be told apart from what follows its semicolon.
        return ask(route('*', pattern.toLowerCase(), applied), 'GET', path) !== undefined;
      }),
      { numRuns: 2000 },
    );
  });

  test('does not throw, whatever the path', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string(), (path, more) => {
        ask(policy, 'POST', `/${path}%${more}`);
      }),
    );
  });

  test('shows the guards inside what the guards outside found, and the whole request', async () => {
    const bodies: Promise<Uint8Array>[] = [];
    const request = {
      method: 'POST',
      path: '/payments',
      query: new URLSearchParams('a=1'),
      search: '?a=%31',
      headers: { get: () => 'value', all: () => [] },
      remoteAddress: '192.0.2.1',
      secure: true,
      signal: new AbortController().signal,
      rawBody: () => Promise.resolve(Buffer.from('body')),
    } satisfies GuardRequest;
    const inner: Guard<string, { principal: string }> = (given, { principal }) => {
      bodies.push(given.rawBody());
      return {
        pass: true,
        context: [
          principal,
          given.query.get('a'),
          given.search,
          given.headers.get('x'),
          given.remoteAddress,
          given.secure,
          given.signal.aborted,
          given.method,
          given.path,
          given.route,
        ].join(' '),
      };
    };
    const guards = chain()
      .use('principal', (): { pass: true; context: string } => ({ pass: true, context: 'alice' }))
      .use('payment', route('POST', '/payments', chain<{ principal: string }>().use('key', inner)));
    expect(guards(request, {})).toMatchObject({
      context: {
        payment: { key: 'alice 1 ?a=%31 value 192.0.2.1 true false POST /payments /payments' },
      },
    });
    expect(await Promise.all(bodies)).toEqual([Buffer.from('body')]);
  });

  test('is typed: the context may be undefined, and the outer one must fit', () => {
    const typed = route('GET', '/a', applied);
    expectTypeOf(typed).toEqualTypeOf<Guard<string | undefined, object>>();
    const demanding = route('GET', '/a', (_request, context: { principal: string }) => ({
      pass: true,
      context: context.principal,
    }));
    // @ts-expect-error there is no principal outside
    chain().use('a', demanding);
  });

  test('refuses through its guard', () => {
    const guarded = route('GET', '/a', () => problem({ status: 403 }));
    expect(guarded({ method: 'GET', path: '/a' } as GuardRequest, {})).toMatchObject({
      status: 403,
    });
  });
});

function spell(char: string, way: string | undefined): string {
  const hex = char.charCodeAt(0).toString(16);
  if (way === 'upper') return char.toUpperCase();
  if (way === 'encoded') return `%${hex}`;
  if (way === 'twice') return `%25${hex}`;
  return char;
}
