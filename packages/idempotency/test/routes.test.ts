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
  ])('has %s %s', (method, path) => {
    expect(isListed(method, path)).toBe(true);
  });

  test.each([
    ['GET', '/payments'],
    ['POST', '/payments/1'],
    ['POST', '/orders//pay'],
    ['POST', '/orders/1/2/pay'],
    ['PUT', '/aXb'],
    ['POST', '/hooks'],
    ['PATCH', '/payments'],
  ])('does not have %s %s', (method, path) => {
    expect(isListed(method, path)).toBe(false);
  });

  test.each(['/payments', 'post /payments', 'POST payments', 'POST /a/*/b', ''])(
    'refuses the pattern %j',
    (pattern) => {
      expect(() => routes([pattern])).toThrow(TypeError);
    },
  );
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
])('the canonical path of %s is %s', (path, canonical) => {
  expect(canonicalPath(path)).toBe(canonical);
});
