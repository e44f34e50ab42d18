import { describe, expect, it } from 'vitest';
import { checkClaims, checkTimes, type TokenRules } from '../src/rules.ts';
import { AUDIENCE, claims, ISSUER, NOW } from './issuer.ts';
import { refusal } from './refusal.ts';

const rules: TokenRules = {
  issuer: ISSUER,
  audiences: [AUDIENCE],
  algorithms: ['RS256'],
  profile: 'rfc9068',
  maxLifetimeSeconds: 900,
  toleranceSeconds: 5,
  requiredClaims: [],
};

describe('the rules', () => {
  it('check the issuer themselves, whoever chose them for the token', () => {
    const foreign = { ...rules, issuer: 'https://auth.example.org' };
    expect(() => checkClaims(claims(), rules)).not.toThrow();
    expect(() => checkClaims(claims(), foreign)).toThrow(refusal('ERR_JWT_ISSUER'));
  });

  it.each([
    [{ nowMs: Number.NaN, latestMs: NOW * 1000 }, 'ERR_JWT_ISSUED_IN_FUTURE'],
    [{ nowMs: NOW * 1000, latestMs: Number.NaN }, 'ERR_JWT_EXPIRED'],
  ] as const)('accept nothing at %j', (at, code) => {
    expect(() => checkTimes(claims() as never, at, rules)).toThrow(refusal(code));
  });
});

describe('a required claim', () => {
  const demanding = { ...rules, requiredClaims: ['roles'] };

  it.each([[[]], [{}], [null], [''], [' ']])('may not be %j', (roles) => {
    const empty = () => checkClaims(claims({ roles }), demanding);
    expect(empty).toThrow(refusal('ERR_JWT_CLAIM_MISSING'));
  });

  it.each([[['reader']], [{ a: 1 }], [0], [false]])('may be %j', (roles) => {
    expect(() => checkClaims(claims({ roles }), demanding)).not.toThrow();
  });

  it('is the token’s own, not one that every object has', () => {
    const odd = () => checkClaims(claims(), { ...rules, requiredClaims: ['toString'] });
    expect(odd).toThrow(refusal('ERR_JWT_CLAIM_MISSING'));
  });
});
