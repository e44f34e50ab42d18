import { claims, NOW, token } from '../issuer.ts';
import { type Attack, AUDIENCE, attacks, ISSUER, NEIGHBOUR, trusted } from './attack.ts';

/** A token with a good signature and bad claims: an issuer's mistake, or a token for something else. */
function claiming(changes: Record<string, unknown>): string {
  return token(trusted, claims(changes));
}

const json = JSON.stringify(claims());

/** With a number that `JSON.stringify` would not write. */
function writing(claim: string, number: string): string {
  return token(trusted, json.replace(new RegExp(`"${claim}":\\d+`), `"${claim}":${number}`));
}

const missing = (['iss', 'sub', 'aud', 'exp', 'iat', 'client_id', 'jti'] as const).map(
  (claim): [string, unknown, 'ERR_JWT_CLAIM_MISSING'] => [
    `no ${claim}`,
    claiming({ [claim]: undefined }),
    'ERR_JWT_CLAIM_MISSING',
  ],
);

const notTexts = (['iss', 'sub', 'client_id', 'jti'] as const).flatMap((claim) =>
  (
    [
      ['an empty', ''],
      ['a blank', ' \t\u00a0'],
      ['a null', null],
      ['a numeric', 1],
      ['a listed', ['x']],
      ['a true', true],
      ['an object for', {}],
    ] as const
  ).map(([what, value]): [string, unknown, 'ERR_JWT_CLAIM_INVALID'] => [
    `${what} ${claim}`,
    claiming({ [claim]: value }),
    'ERR_JWT_CLAIM_INVALID',
  ]),
);

export const issuers: readonly Attack[] = attacks([
  ...missing,
  ...notTexts,
  ['an issuer with a slash behind', claiming({ iss: `${ISSUER}/` }), 'ERR_JWT_ISSUER'],
  ['an issuer in upper case', claiming({ iss: ISSUER.toUpperCase() }), 'ERR_JWT_ISSUER'],
  ['an issuer over http', claiming({ iss: ISSUER.replace('https', 'http') }), 'ERR_JWT_ISSUER'],
  ['an issuer with its port', claiming({ iss: `${ISSUER}:443` }), 'ERR_JWT_ISSUER'],
  ['an issuer below the trusted one', claiming({ iss: `${ISSUER}/tenant` }), 'ERR_JWT_ISSUER'],
  ['an issuer that begins alike', claiming({ iss: `${ISSUER}.evil.example` }), 'ERR_JWT_ISSUER'],
  [
    'an issuer with the trusted one as user',
    claiming({ iss: `${ISSUER}@evil.example` }),
    'ERR_JWT_ISSUER',
  ],
  ['an issuer with a space', claiming({ iss: ` ${ISSUER}` }), 'ERR_JWT_ISSUER'],
  ['an issuer that looks the same', claiming({ iss: ISSUER.replace('a', 'а') }), 'ERR_JWT_ISSUER'],
  ['iss __proto__', claiming({ iss: '__proto__' }), 'ERR_JWT_ISSUER'],
  ["a neighbour's name over a good signature", claiming({ iss: NEIGHBOUR }), 'ERR_JWT_KEY_UNKNOWN'],
]);

export const audiences: readonly Attack[] = attacks([
  ['aud null', claiming({ aud: null }), 'ERR_JWT_CLAIM_INVALID'],
  ['an empty aud', claiming({ aud: '' }), 'ERR_JWT_CLAIM_INVALID'],
  ['an aud without entries', claiming({ aud: [] }), 'ERR_JWT_CLAIM_INVALID'],
  ['a blank aud', claiming({ aud: ' ' }), 'ERR_JWT_CLAIM_INVALID'],
  ['an aud with an empty entry', claiming({ aud: [''] }), 'ERR_JWT_CLAIM_INVALID'],
  [
    'an aud with null beside the good one',
    claiming({ aud: [AUDIENCE, null] }),
    'ERR_JWT_CLAIM_INVALID',
  ],
  ['an aud within a list within a list', claiming({ aud: [[AUDIENCE]] }), 'ERR_JWT_CLAIM_INVALID'],
  ['a numeric aud', claiming({ aud: 1 }), 'ERR_JWT_CLAIM_INVALID'],
  ['an aud of true', claiming({ aud: true }), 'ERR_JWT_CLAIM_INVALID'],
  ['an object for aud', claiming({ aud: { 0: AUDIENCE, length: 1 } }), 'ERR_JWT_CLAIM_INVALID'],
  ['another aud', claiming({ aud: 'https://other.example.com' }), 'ERR_JWT_AUDIENCE'],
  ['other auds', claiming({ aud: ['a', 'b'] }), 'ERR_JWT_AUDIENCE'],
  ['an aud with a slash behind', claiming({ aud: `${AUDIENCE}/` }), 'ERR_JWT_AUDIENCE'],
  ['an aud in upper case', claiming({ aud: AUDIENCE.toUpperCase() }), 'ERR_JWT_AUDIENCE'],
  ['an aud that begins alike', claiming({ aud: `${AUDIENCE}.evil.example` }), 'ERR_JWT_AUDIENCE'],
  ['the beginning of the aud', claiming({ aud: AUDIENCE.slice(0, -1) }), 'ERR_JWT_AUDIENCE'],
  ['auds in one text, with commas', claiming({ aud: `x,${AUDIENCE}` }), 'ERR_JWT_AUDIENCE'],
  ['auds in one text, with spaces', claiming({ aud: `x ${AUDIENCE}` }), 'ERR_JWT_AUDIENCE'],
  ['a pattern for aud', claiming({ aud: '.*' }), 'ERR_JWT_AUDIENCE'],
  ['a wildcard for aud', claiming({ aud: '*' }), 'ERR_JWT_AUDIENCE'],
]);

export const times: readonly Attack[] = attacks([
  ['expired within the last second of tolerance', claiming({ exp: NOW - 5 }), 'ERR_JWT_EXPIRED'],
  ['expired long ago', claiming({ iat: 1000, exp: 1900 }), 'ERR_JWT_EXPIRED'],
  ['exp null', claiming({ exp: null }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp as a text', claiming({ exp: String(NOW + 60) }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp as a date', claiming({ exp: '2030-01-01T00:00:00Z' }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp as a list', claiming({ exp: [NOW + 60] }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp as an object', claiming({ exp: {} }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp true', claiming({ exp: true }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp beyond all numbers', writing('exp', '1e400'), 'ERR_JWT_CLAIM_INVALID'],
  ['exp below all numbers', writing('exp', '-1e400'), 'ERR_JWT_CLAIM_INVALID'],
  ['a negative exp', claiming({ exp: -1 }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp in milliseconds', claiming({ exp: (NOW + 60) * 1000 }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp in the year 10000', claiming({ exp: 253_402_300_800 }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp at iat', claiming({ iat: NOW + 1, exp: NOW + 1 }), 'ERR_JWT_CLAIM_INVALID'],
  ['exp before iat', claiming({ iat: NOW + 3, exp: NOW + 2 }), 'ERR_JWT_CLAIM_INVALID'],
  ['a life of 901 s', claiming({ iat: NOW, exp: NOW + 901 }), 'ERR_JWT_LIFETIME'],
  ['a life a fraction too long', claiming({ iat: NOW, exp: NOW + 900.001 }), 'ERR_JWT_LIFETIME'],
  ['a life of years', claiming({ exp: NOW + 1e8 }), 'ERR_JWT_LIFETIME'],
  ['a long life, dated back', claiming({ iat: 0 }), 'ERR_JWT_LIFETIME'],
  ['iat null', claiming({ iat: null }), 'ERR_JWT_CLAIM_INVALID'],
  ['iat as a text', claiming({ iat: String(NOW) }), 'ERR_JWT_CLAIM_INVALID'],
  ['a negative iat', claiming({ iat: -1 }), 'ERR_JWT_CLAIM_INVALID'],
  ['iat in milliseconds', claiming({ iat: NOW * 1000 }), 'ERR_JWT_CLAIM_INVALID'],
  ['iat beyond all numbers', writing('iat', '1e400'), 'ERR_JWT_CLAIM_INVALID'],
  [
    'iat in the future, to live longer',
    claiming({ iat: NOW + 6, exp: NOW + 906 }),
    'ERR_JWT_ISSUED_IN_FUTURE',
  ],
  ['nbf in the future', claiming({ nbf: NOW + 6 }), 'ERR_JWT_NOT_YET_VALID'],
  ['nbf as a text', claiming({ nbf: '0' }), 'ERR_JWT_CLAIM_INVALID'],
  ['nbf null', claiming({ nbf: null }), 'ERR_JWT_CLAIM_INVALID'],
  ['nbf in milliseconds', claiming({ nbf: NOW * 1000 }), 'ERR_JWT_CLAIM_INVALID'],
]);

export const bindings: readonly Attack[] = attacks([
  ['a token bound to a DPoP key, stolen', claiming({ cnf: { jkt: 'x' } }), 'ERR_JWT_BOUND'],
  [
    'a token bound to a certificate, stolen',
    claiming({ cnf: { 'x5t#S256': 'x' } }),
    'ERR_JWT_BOUND',
  ],
  ['a token bound by a key of its own', claiming({ cnf: { jwk: trusted.jwk } }), 'ERR_JWT_BOUND'],
  ['a token bound by a key id', claiming({ cnf: { kid: 'x' } }), 'ERR_JWT_BOUND'],
  ['a token bound in an unknown way', claiming({ cnf: { 'x5t#S512': 'x' } }), 'ERR_JWT_BOUND'],
  ['a token bound to nothing', claiming({ cnf: {} }), 'ERR_JWT_BOUND'],
  ['cnf null', claiming({ cnf: null }), 'ERR_JWT_BOUND'],
  ['cnf as a text', claiming({ cnf: 'x' }), 'ERR_JWT_BOUND'],
  ['cnf as a list', claiming({ cnf: [] }), 'ERR_JWT_BOUND'],
  ['an empty jkt', claiming({ cnf: { jkt: '' } }), 'ERR_JWT_BOUND'],
  ['a numeric jkt', claiming({ cnf: { jkt: 1 } }), 'ERR_JWT_BOUND'],
]);
