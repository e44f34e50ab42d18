import type { Guard } from '@countersign/guard';
import { describe, expectTypeOf, it } from 'vitest';
import { jwtGuard, type Principal } from '../src/guard.ts';
import {
  type AccessTokenClaims,
  createJwtVerifier,
  type GenericClaims,
  type JwtErrorCode,
  type JwtVerifier,
} from '../src/index.ts';
import { AUDIENCE, ISSUER, signingKey } from './issuer.ts';

const key = signingKey('ES256').publicKey;
const common = { audience: AUDIENCE, algorithms: ['ES256'] } as const;

describe('the types', () => {
  it('promise client_id and jti under rfc9068, which is the default', async () => {
    const jwt = createJwtVerifier({ issuer: { issuer: ISSUER, key }, ...common });
    expectTypeOf(jwt).toEqualTypeOf<JwtVerifier<AccessTokenClaims>>();
    expectTypeOf<AccessTokenClaims['client_id']>().toEqualTypeOf<string>();
    expectTypeOf<AccessTokenClaims['jti']>().toEqualTypeOf<string>();
  });

  it('promise neither under generic', () => {
    const jwt = createJwtVerifier({
      issuer: { issuer: ISSUER, key },
      ...common,
      profile: 'generic',
    });
    expectTypeOf(jwt).toEqualTypeOf<JwtVerifier<GenericClaims>>();
    expectTypeOf<GenericClaims['client_id']>().toEqualTypeOf<string | undefined>();
    expectTypeOf<GenericClaims['sub']>().toEqualTypeOf<string>();
  });

  it('promise neither when one issuer is generic, or might be', () => {
    const issuer = [
      { issuer: ISSUER, key },
      { issuer: 'x', key, profile: 'generic' },
    ] as const;
    const mixed = createJwtVerifier({ issuer, ...common });
    expectTypeOf(mixed).toEqualTypeOf<JwtVerifier<GenericClaims>>();
    const profile = 'rfc9068' as 'rfc9068' | 'generic';
    const open = createJwtVerifier({ issuer: { issuer: ISSUER, key }, ...common, profile });
    expectTypeOf(open).toEqualTypeOf<JwtVerifier<GenericClaims>>();
  });

  it('carry over to the guard', () => {
    const strict = createJwtVerifier({ issuer: { issuer: ISSUER, key }, ...common });
    expectTypeOf(jwtGuard(strict)).toEqualTypeOf<Guard<Principal<AccessTokenClaims>>>();
    expectTypeOf<Principal['clientId']>().toEqualTypeOf<string>();
    expectTypeOf<Principal<GenericClaims>['clientId']>().toEqualTypeOf<string | undefined>();
  });

  it('allow nothing to be changed', () => {
    expectTypeOf<AccessTokenClaims>().toEqualTypeOf<Readonly<AccessTokenClaims>>();
  });

  it('refuse what would not be safe', () => {
    const misuse = (): void => {
      // @ts-expect-error: there must be an audience
      createJwtVerifier({ issuer: ISSUER });
      // @ts-expect-error: an audience is no pattern
      createJwtVerifier({ issuer: ISSUER, audience: /api/ });
      // @ts-expect-error: there is no such algorithm
      createJwtVerifier({ issuer: ISSUER, audience: AUDIENCE, algorithms: ['none'] });
      // @ts-expect-error: endless lives have a name
      createJwtVerifier({ issuer: ISSUER, audience: AUDIENCE, maxLifetimeSeconds: 'never' });
      // @ts-expect-error: an answer that may be undefined is none
      createJwtVerifier({ issuer: ISSUER, audience: AUDIENCE, denylist: () => undefined });
    };
    expectTypeOf(misuse).toBeFunction();
    expectTypeOf<'ERR_JWT_EXPIRED'>().toExtend<JwtErrorCode>();
  });
});
