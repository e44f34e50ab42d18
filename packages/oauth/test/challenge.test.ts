import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseChallenges } from '../src/challenge.ts';

it.each([
  ['Bearer', [{ scheme: 'bearer', parameters: {} }]],
  [
    'Bearer realm="a, b", error="invalid_token"',
    [{ scheme: 'bearer', parameters: { realm: 'a, b', error: 'invalid_token' } }],
  ],
  [
    'Basic realm="x", DPoP algs="ES256", error=use_dpop_nonce',
    [
      { scheme: 'basic', parameters: { realm: 'x' } },
      { scheme: 'dpop', parameters: { algs: 'ES256', error: 'use_dpop_nonce' } },
    ],
  ],
  [
    'Negotiate abc==, Bearer ERROR = "invalid_\\"token"',
    [
      { scheme: 'negotiate', parameters: {} },
      { scheme: 'bearer', parameters: { error: 'invalid_"token' } },
    ],
  ],
  ['"', []],
  ['', []],
])('reads %s', (field, challenges) => {
  expect(parseChallenges(field)).toEqual(challenges);
});

it('does not take a value for an error', () => {
  expect(parseChallenges('Bearer realm="error=\\"invalid_token\\""')).toEqual([
    { scheme: 'bearer', parameters: { realm: 'error="invalid_token"' } },
  ]);
});

it('reads back what was written', () => {
  const token = fc.stringMatching(/^[a-z0-9!#$%&'*+.^_`|~-]{1,8}$/);
  const quoted = fc.string({ unit: fc.constantFrom('a', '"', '\\', ',', '=', ' '), maxLength: 8 });
  const challenge = fc.record({
    scheme: token,
    parameters: fc
      .uniqueArray(fc.tuple(token, quoted), { selector: ([name]) => name, minLength: 1 })
      .map((pairs) => Object.fromEntries(pairs)),
  });
  fc.assert(
    fc.property(fc.array(challenge), (challenges) => {
      const field = challenges
        .map(({ scheme, parameters }) => {
          const list = Object.entries(parameters).map(
            ([name, value]) => `${name}="${value.replace(/["\\]/g, '\\$&')}"`,
          );
          return `${scheme} ${list.join(', ')}`;
        })
        .join(', ');
      fc.pre(field.length <= 8192);
      expect(parseChallenges(field)).toEqual(challenges);
    }),
  );
});

it('ends soon, whatever it is given', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 500 }), (field) => {
      expect(Array.isArray(parseChallenges(field))).toBe(true);
    }),
  );
  expect(parseChallenges('a'.repeat(100_000))).toHaveLength(1);
  expect(parseChallenges('a,'.repeat(50_000)).length).toBeLessThanOrEqual(4096);
});
