import { describe, expect, test } from 'vitest';
import { canonicalPath, routes } from '../src/routes.ts';

describe('routes', () => {
  const isListed = routes(['POST /payments', 'POST /orders/:id/pay', 'PUT /a.b', 'POST /hooks/*']);

  test.each([
    ['POST', '/payments'],
    ['POST', '/PAYMENTS'],
    ['POST', '/orders/1/pay'],
    ['PUT', '/a.b'],
    ['POST', '/hooks/'],
    ['POST', '/hooks/a/b'],
    ['POST', '/hooks'],
    ['POST', '/hooks/a%0Ab'],
    ['POST', '/%68ooks/%ff'],
    ['POST', '/orders/1%2F2/pay'],
    ['POST', '/orders/%2F/pay'],
    ['POST', '/x/../orders/1/./pay'],
    ['POST', '/x/%2e%2E/payments'],
    ['POST', '/payments//..'],
    ['POST', '/x\\..\\payments'],
    ['POST', '/payments;v=1'],
    ['POST', '/hooks/../a'],
  ])('has %s %s', (method, path) => {
    expect(isListed(method, path)).toBe(true);
  });

  test.each([
    ['GET', '/payments'],
    ['POST', '/payments/1'],
    ['POST', '/orders//pay'],
    ['POST', '/orders/1/2/pay'],
    ['PUT', '/aXb'],
    ['PATCH', '/payments'],
  ])('does not have %s %s', (method, path) => {
    expect(isListed(method, path)).toBe(false);
  });

  test.each([
    '/payments',
    'post /payments',
    'POST payments',
    'POST /a/*/b',
    '',
    // What other routers mean by these would never match here, and no key would be required.
    'POST /payments/{id}',
    'POST /payments/:id?',
    'POST /payments/:id(\\d+)',
    'POST /payments/:id.json',
    'POST /payments*',
    'POST /payments/*rest',
    'POST /payments?dry=1',
    'POST /caf%C3%A9',
    'POST /payments#now',
  ])('refuses the pattern %j', (pattern) => {
    expect(() => routes([pattern])).toThrow(/^required: expected patterns such as/);
  });

  test('takes a pattern for what it says, whatever the letters and slashes', () => {
    const isRoot = routes(['POST /', 'M-SEARCH /*', 'POST /Café/']);
    expect(isRoot('POST', '/')).toBe(true);
    expect(isRoot('POST', '/caf%C3%89')).toBe(true);
    expect(isRoot('M-SEARCH', '/any/thing')).toBe(true);
    expect(isRoot('POST', '/x')).toBe(false);
  });
});

test.each([
  ['/', '/'],
  ['//', '/'],
  ['/payments', '/payments'],
  ['/payments/', '/payments'],
  ['//payments//', '/payments'],
  ['/%70ayments', '/payments'],
  ['/a%2Fb', '/a/b'],
  ['/broken%', '/broken%'],
  ['/A%2eb/%ff', '/a.b/%ff'],
  ['/a/../b/./c', '/b/c'],
])('the canonical path of %s is %s', (path, canonical) => {
  expect(canonicalPath(path)).toBe(canonical);
});
