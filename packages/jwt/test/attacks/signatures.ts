import { createHmac } from 'node:crypto';
import { claims, encode, header, signature, signingKey, token } from '../issuer.ts';
import { type Attack, attacker, attacks, neighbour, trusted } from './attack.ts';

const good = token(trusted);
const [head = '', body = '', tag = ''] = good.split('.');
const es = signingKey('ES256');
const ed = signingKey('EdDSA');

/** The key confusion: an HMAC whose secret is something public about the RSA key. */
function confused(secret: string | Buffer, algorithm = 'HS256'): string {
  const input = `${encode(header({ alg: algorithm }))}.${encode(claims())}`;
  const mac = createHmac(`sha${algorithm.slice(2)}`, secret).update(input);
  return `${input}.${mac.digest('base64url')}`;
}

/** Unsigned, under any name. */
function unsigned(alg: unknown): string {
  return `${encode(header({ alg }))}.${encode(claims())}.`;
}

/** Signed by the trusted key, whatever the header says. */
function heading(changes: Record<string, unknown>): string {
  return token(trusted, claims(), header(changes));
}

function flipped(bytes: Buffer, at: number): string {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed.toString('base64url');
}

const pem = trusted.publicKey.export({ type: 'spki', format: 'pem' }).toString();
const raw = Buffer.from(tag, 'base64url');

export const algorithms: readonly Attack[] = attacks([
  ['alg none', unsigned('none'), 'ERR_JWT_ALGORITHM'],
  ['alg None', unsigned('None'), 'ERR_JWT_ALGORITHM'],
  ['alg NONE', unsigned('NONE'), 'ERR_JWT_ALGORITHM'],
  ['alg nOnE', unsigned('nOnE'), 'ERR_JWT_ALGORITHM'],
  ['alg none with a space', unsigned('none '), 'ERR_JWT_ALGORITHM'],
  ['alg none with a good signature', heading({ alg: 'none' }), 'ERR_JWT_ALGORITHM'],
  ['no alg', unsigned(undefined), 'ERR_JWT_ALGORITHM'],
  ['no alg with a good signature', heading({ alg: undefined }), 'ERR_JWT_ALGORITHM'],
  ['alg null', unsigned(null), 'ERR_JWT_ALGORITHM'],
  ['an empty alg', unsigned(''), 'ERR_JWT_ALGORITHM'],
  ['alg 0', unsigned(0), 'ERR_JWT_ALGORITHM'],
  ['alg true', heading({ alg: true }), 'ERR_JWT_ALGORITHM'],
  ['alg as a list', heading({ alg: ['RS256'] }), 'ERR_JWT_ALGORITHM'],
  ['alg as an object', heading({ alg: { toString: 'RS256' } }), 'ERR_JWT_ALGORITHM'],
  ['alg in lower case', heading({ alg: 'rs256' }), 'ERR_JWT_ALGORITHM'],
  ['alg with a space', heading({ alg: 'RS256 ' }), 'ERR_JWT_ALGORITHM'],
  ['alg by the name of the hash', heading({ alg: 'RSA-SHA256' }), 'ERR_JWT_ALGORITHM'],
  ['alg constructor', heading({ alg: 'constructor' }), 'ERR_JWT_ALGORITHM'],
  ['alg toString', heading({ alg: 'toString' }), 'ERR_JWT_ALGORITHM'],
  ['an encryption algorithm', heading({ alg: 'RSA-OAEP' }), 'ERR_JWT_ALGORITHM'],
  ['alg dir', heading({ alg: 'dir' }), 'ERR_JWT_ALGORITHM'],
  ['RS384 with the trusted key', token({ ...trusted, algorithm: 'RS384' }), 'ERR_JWT_ALGORITHM'],
  ['RS512 with the trusted key', token({ ...trusted, algorithm: 'RS512' }), 'ERR_JWT_ALGORITHM'],
  ['PS256 with the trusted key', token({ ...trusted, algorithm: 'PS256' }), 'ERR_JWT_ALGORITHM'],
  ['RS1', heading({ alg: 'RS1' }), 'ERR_JWT_ALGORITHM'],
  ['ES256 with an own key', token(es), 'ERR_JWT_ALGORITHM'],
  ['EdDSA with an own key', token(ed), 'ERR_JWT_ALGORITHM'],
  ['HS256, the public key in PEM as the secret', confused(pem), 'ERR_JWT_ALGORITHM'],
  ['HS256, the PEM without its last line break', confused(pem.trim()), 'ERR_JWT_ALGORITHM'],
  [
    'HS256, the PKCS #1 PEM as the secret',
    confused(trusted.publicKey.export({ type: 'pkcs1', format: 'pem' }).toString()),
    'ERR_JWT_ALGORITHM',
  ],
  [
    'HS256, the public key in DER as the secret',
    confused(trusted.publicKey.export({ type: 'spki', format: 'der' })),
    'ERR_JWT_ALGORITHM',
  ],
  ['HS256, the JWK as the secret', confused(JSON.stringify(trusted.jwk)), 'ERR_JWT_ALGORITHM'],
  [
    'HS256, the modulus as the secret',
    confused(Buffer.from(trusted.jwk.n ?? '', 'base64url')),
    'ERR_JWT_ALGORITHM',
  ],
  ['HS384, the public key as the secret', confused(pem, 'HS384'), 'ERR_JWT_ALGORITHM'],
  ['HS512, the public key as the secret', confused(pem, 'HS512'), 'ERR_JWT_ALGORITHM'],
  ['HS256 with an empty secret', confused(''), 'ERR_JWT_ALGORITHM'],
]);

export const signatures: readonly Attack[] = attacks([
  ['no signature', `${head}.${body}.`, 'ERR_JWT_SIGNATURE'],
  [
    'a signature of zeros',
    `${head}.${body}.${Buffer.alloc(256).toString('base64url')}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature of ones',
    `${head}.${body}.${Buffer.alloc(256, 255).toString('base64url')}`,
    'ERR_JWT_SIGNATURE',
  ],
  ['a signature of one byte', `${head}.${body}.AA`, 'ERR_JWT_SIGNATURE'],
  [
    'a signature that ends early',
    `${head}.${body}.${raw.subarray(0, 255).toString('base64url')}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature with a byte behind it',
    `${head}.${body}.${Buffer.concat([raw, Buffer.from([0])]).toString('base64url')}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature with a zero before it',
    `${head}.${body}.${Buffer.concat([Buffer.from([0]), raw]).toString('base64url')}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature with its first bit turned',
    `${head}.${body}.${flipped(raw, 0)}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature with its last bit turned',
    `${head}.${body}.${flipped(raw, 255)}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'the signature of another token',
    `${token(trusted, claims({ sub: 'admin' }))
      .split('.')
      .slice(0, 2)
      .join('.')}.${tag}`,
    'ERR_JWT_SIGNATURE',
  ],
  ['a changed subject', `${head}.${encode(claims({ sub: 'admin' }))}.${tag}`, 'ERR_JWT_SIGNATURE'],
  [
    'a later expiry',
    `${head}.${encode(claims({ exp: 9_999_999_999 }))}.${tag}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'the same claims in another order',
    `${head}.${encode(Object.fromEntries(Object.entries(claims()).reverse()))}.${tag}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'the same header in another order',
    `${encode({ typ: 'at+jwt', alg: 'RS256', kid: 'key-1' })}.${body}.${tag}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a header that lost its kid',
    `${encode(header({ kid: undefined }))}.${body}.${tag}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature over the payload alone',
    `${head}.${body}.${signature(trusted, body)}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature over the claims as JSON',
    `${head}.${body}.${signature(trusted, JSON.stringify(claims()))}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a signature with SHA-512 under RS256',
    `${head}.${body}.${signature({ ...trusted, algorithm: 'RS512' }, `${head}.${body}`)}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'a PSS signature under RS256',
    `${head}.${body}.${signature({ ...trusted, algorithm: 'PS256' }, `${head}.${body}`)}`,
    'ERR_JWT_SIGNATURE',
  ],
  [
    'an ECDSA signature under RS256',
    `${head}.${body}.${signature(es, `${head}.${body}`)}`,
    'ERR_JWT_SIGNATURE',
  ],
  ['an own key under the trusted kid', token(attacker), 'ERR_JWT_SIGNATURE'],
  ["a neighbour's key under the trusted kid", token(neighbour), 'ERR_JWT_SIGNATURE'],
]);

export const keys: readonly Attack[] = attacks([
  [
    'an own key in jwk',
    token(attacker, claims(), header({ jwk: attacker.jwk })),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  [
    'an own key in jwk, without kid',
    token(attacker, claims(), header({ kid: undefined, jwk: attacker.jwk })),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  ['the trusted key in jwk', heading({ jwk: trusted.jwk }), 'ERR_JWT_EMBEDDED_KEY'],
  [
    'an own key set in jku',
    token(attacker, claims(), header({ jku: 'https://evil.example/jwks' })),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  [
    "an own key set in jku, by the issuer's name",
    token(attacker, claims(), header({ jku: 'https://auth.example.com@evil.example/jwks' })),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  [
    'a jku into the private network',
    heading({ jku: 'http://169.254.169.254/latest' }),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  [
    'an own certificate in x5u',
    token(attacker, claims(), header({ x5u: 'https://evil.example/cert' })),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  [
    'an own certificate in x5c',
    token(attacker, claims(), header({ x5c: ['MIIB'] })),
    'ERR_JWT_EMBEDDED_KEY',
  ],
  ['jwk null', heading({ jwk: null }), 'ERR_JWT_EMBEDDED_KEY'],
  ['a kid nobody has', heading({ kid: 'key-9' }), 'ERR_JWT_KEY_UNKNOWN'],
  [
    "a neighbour's kid and key",
    token(neighbour, claims(), header({ kid: 'key-2' })),
    'ERR_JWT_KEY_UNKNOWN',
  ],
  [
    "a neighbour's key for the neighbour's audience claim",
    token(neighbour, claims({ iss: 'https://auth.example.net' }), header({ kid: 'key-1' })),
    'ERR_JWT_KEY_UNKNOWN',
  ],
  [
    'kid ../../dev/null',
    token(attacker, claims(), header({ kid: '../../../../dev/null' })),
    'ERR_JWT_KEY_UNKNOWN',
  ],
  [
    'kid as SQL',
    token(attacker, claims(), header({ kid: "x' UNION SELECT 'a'--" })),
    'ERR_JWT_KEY_UNKNOWN',
  ],
  ['kid as a command', token(attacker, claims(), header({ kid: '$(id)' })), 'ERR_JWT_KEY_UNKNOWN'],
  ['kid __proto__', token(attacker, claims(), header({ kid: '__proto__' })), 'ERR_JWT_KEY_UNKNOWN'],
  [
    'kid constructor',
    token(attacker, claims(), header({ kid: 'constructor' })),
    'ERR_JWT_KEY_UNKNOWN',
  ],
  ['kid in upper case', heading({ kid: 'KEY-1' }), 'ERR_JWT_KEY_UNKNOWN'],
  ['kid with a NUL', heading({ kid: 'key-1\0' }), 'ERR_JWT_KEY_UNKNOWN'],
  ['an empty kid', heading({ kid: '' }), 'ERR_JWT_HEADER'],
  ['kid null', heading({ kid: null }), 'ERR_JWT_HEADER'],
  ['kid as a number', heading({ kid: 0 }), 'ERR_JWT_HEADER'],
  ['kid as a list', heading({ kid: ['key-1'] }), 'ERR_JWT_HEADER'],
  ['kid as an object', heading({ kid: { $ne: null } }), 'ERR_JWT_HEADER'],
]);

export const headers: readonly Attack[] = attacks([
  ['crit with an extension', heading({ crit: ['x'], x: 1 }), 'ERR_JWT_CRITICAL_HEADER'],
  ['crit with b64 (RFC 7797)', heading({ crit: ['b64'], b64: false }), 'ERR_JWT_CRITICAL_HEADER'],
  ['crit with exp', heading({ crit: ['exp'], exp: 1 }), 'ERR_JWT_CRITICAL_HEADER'],
  ['an empty crit', heading({ crit: [] }), 'ERR_JWT_CRITICAL_HEADER'],
  ['crit null', heading({ crit: null }), 'ERR_JWT_CRITICAL_HEADER'],
  ['crit as a text', heading({ crit: 'x' }), 'ERR_JWT_CRITICAL_HEADER'],
  ['crit with a registered name', heading({ crit: ['alg'] }), 'ERR_JWT_CRITICAL_HEADER'],
  ['b64 false without crit', heading({ b64: false }), 'ERR_JWT_HEADER'],
  ['zip, as if it were encrypted', heading({ zip: 'DEF' }), 'ERR_JWT_HEADER'],
  ['a nested token by cty', heading({ cty: 'JWT' }), 'ERR_JWT_HEADER'],
  ['no typ', heading({ typ: undefined }), 'ERR_JWT_TYPE'],
  ['typ null', heading({ typ: null }), 'ERR_JWT_TYPE'],
  ['an empty typ', heading({ typ: '' }), 'ERR_JWT_TYPE'],
  ['typ as a list', heading({ typ: ['at+jwt'] }), 'ERR_JWT_TYPE'],
  ['any JWT', heading({ typ: 'JWT' }), 'ERR_JWT_TYPE'],
  ['a DPoP proof', heading({ typ: 'dpop+jwt' }), 'ERR_JWT_TYPE'],
  ['a logout token', heading({ typ: 'logout+jwt' }), 'ERR_JWT_TYPE'],
  ['a security event', heading({ typ: 'secevent+jwt' }), 'ERR_JWT_TYPE'],
  ['a client assertion', heading({ typ: 'client-authentication+jwt' }), 'ERR_JWT_TYPE'],
  ['an authorization request', heading({ typ: 'oauth-authz-req+jwt' }), 'ERR_JWT_TYPE'],
  ['an introspection response', heading({ typ: 'token-introspection+jwt' }), 'ERR_JWT_TYPE'],
  ['typ with a parameter', heading({ typ: 'at+jwt;x=1' }), 'ERR_JWT_TYPE'],
  ['typ with a space', heading({ typ: 'at+jwt ' }), 'ERR_JWT_TYPE'],
  ['typ of another top-level type', heading({ typ: 'text/at+jwt' }), 'ERR_JWT_TYPE'],
]);
