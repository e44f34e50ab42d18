import { describe, expect, it } from 'vitest';
import { createJwtVerifier, JwtError } from '../src/index.ts';
import { type Attack, AUDIENCE, ISSUER, NEIGHBOUR, neighbour, trusted } from './attacks/attack.ts';
import { audiences, bindings, issuers, times } from './attacks/claims.ts';
import { algorithms, headers, keys, signatures } from './attacks/signatures.ts';
import { encodings, shapes, texts } from './attacks/text.ts';
import { claims, header, now, token } from './issuer.ts';

const corpus: Readonly<Record<string, readonly Attack[]>> = {
  'the shape of the token': shapes,
  'its encoding': encodings,
  'its JSON': texts,
  'the algorithm': algorithms,
  'the signature': signatures,
  'the key': keys,
  'the header': headers,
  'the issuer and other names': issuers,
  'the audience': audiences,
  'the times': times,
  'the binding': bindings,
};

const verifier = createJwtVerifier({
  issuer: [
    { issuer: ISSUER, jwks: { keys: [trusted.jwk] } },
    { issuer: NEIGHBOUR, jwks: { keys: [neighbour.jwk] } },
  ],
  audience: AUDIENCE,
  now,
});

/** As a rejection or thrown, and the same both ways. */
async function refusal(attempt: () => unknown): Promise<JwtError> {
  try {
    await attempt();
  } catch (error) {
    if (error instanceof JwtError) return error;
    throw error;
  }
  throw new Error('the attack succeeded');
}

describe.each(Object.entries(corpus))('attacks on %s', (_, attacks) => {
  it.each(attacks)('$name', async ({ token: attempt, code }) => {
    const error = await refusal(() => verifier.verify(attempt as string));
    expect(error.code).toBe(code);
    const thrown = await refusal(() => verifier.verifyNow(attempt as string));
    expect(thrown.code).toBe(code);
    if (typeof attempt !== 'string') return;
    for (const part of attempt.split('.').filter((one) => one.length > 8))
      expect(`${error.stack} ${JSON.stringify(error)}`).not.toContain(part.slice(0, 40));
  });
});

describe('the corpus', () => {
  const all = Object.values(corpus).flat();

  it('tries more than 150 things, each under a name of its own', () => {
    const names = Object.entries(corpus).flatMap(([on, some]) => some.map(({ name }) => on + name));
    expect(new Set(names).size).toBe(names.length);
    expect(all.length).toBeGreaterThan(150);
  });

  it('attacks a verifier that accepts what is in order', async () => {
    await expect(verifier.verify(token(trusted))).resolves.toHaveProperty('claims', claims());
    const other = token(neighbour, claims({ iss: NEIGHBOUR }), header({ kid: 'key-2' }));
    await expect(verifier.verify(other)).resolves.toHaveProperty('claims.iss', NEIGHBOUR);
  });

  it('leaves nothing behind: a second attempt ends like the first', async () => {
    for (const { token: attempt, code } of all)
      expect((await refusal(() => verifier.verify(attempt as string))).code).toBe(code);
  });
});

describe('very large input', () => {
  const nested = (levels: number): string =>
    `${JSON.stringify(claims()).slice(0, -1)},"x":${'['.repeat(levels)}${']'.repeat(levels)}}`;
  const roomy = createJwtVerifier({
    issuer: { issuer: ISSUER, jwks: { keys: [trusted.jwk] } },
    audience: AUDIENCE,
    maxTokenBytes: 2_000_000,
    now,
  });

  it.each([
    ['JSON 10,000 deep', token(trusted, nested(10_000)), 'ERR_JWT_JSON', roomy],
    ['JSON 500,000 deep', token(trusted, nested(500_000)), 'ERR_JWT_JSON', roomy],
    ['a text of 1 MB', 'x'.repeat(1_000_000), 'ERR_JWT_TOO_LARGE', verifier],
    ['a text of 1 MB', 'x'.repeat(1_000_000), 'ERR_JWT_MALFORMED', roomy],
    [
      'a token of 1 MB',
      token(trusted, claims({ x: 'x'.repeat(750_000) })),
      'ERR_JWT_TOO_LARGE',
      verifier,
    ],
  ] as const)('is refused without a word of it: %s, %#', async (_, text, code, jwt) => {
    for (const attempt of [() => jwt.verify(text), () => jwt.verifyNow(text)]) {
      const error = await refusal(attempt);
      expect(error.code).toBe(code);
      expect(error.message.length).toBeLessThan(100);
      for (const part of text.split('.')) expect(error.message).not.toContain(part.slice(0, 40));
    }
  });
});
