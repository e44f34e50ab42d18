import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import type { JWK } from 'jose';

/** A fixed moment, in seconds since 1970. */
export const NOW = 1_800_000_000;

export const ISSUER = 'https://auth.example.com';
export const AUDIENCE = 'https://api.example.com';

export function now(): number {
  return NOW * 1000;
}

/** The claims of an unremarkable access token (RFC 9068 §2.2), valid at {@link NOW}. */
export function claims(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return without({
    iss: ISSUER,
    sub: 'user-1',
    aud: AUDIENCE,
    client_id: 'client-1',
    jti: 'token-1',
    iat: NOW - 60,
    exp: NOW + 240,
    scope: 'orders:read orders:write',
    ...changes,
  });
}

/** The header of an unremarkable access token. */
export function header(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return without({ alg: 'RS256', typ: 'at+jwt', kid: 'key-1', ...changes });
}

function without(members: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

export interface SigningKey {
  readonly algorithm: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  /** The public half. */
  readonly jwk: JWK;
}

/** Makes a key pair and names it. */
export function signingKey(algorithm = 'RS256', kid = 'key-1'): SigningKey {
  const { privateKey } = generate(algorithm);
  const publicKey = createPublicKey(privateKey);
  return {
    algorithm,
    privateKey,
    publicKey,
    jwk: { ...(publicKey.export({ format: 'jwk' }) as JWK), kid, alg: algorithm, use: 'sig' },
  };
}

function generate(algorithm: string): { privateKey: KeyObject } {
  if (algorithm.startsWith('ES'))
    return generateKeyPairSync('ec', {
      namedCurve: { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }[algorithm] ?? algorithm,
    });
  if (algorithm.startsWith('Ed')) return generateKeyPairSync('ed25519');
  return generateKeyPairSync('rsa', { modulusLength: 2048 });
}

/** Signs any header and payload, sensible or not. Texts and bytes go in as they are. */
export function token(
  key: Pick<SigningKey, 'algorithm' | 'privateKey'>,
  payload: object | string | Buffer = claims(),
  head: object | string | Buffer = header({ alg: key.algorithm }),
): string {
  const input = `${encode(head)}.${encode(payload)}`;
  return `${input}.${signature(key, input)}`;
}

/** The signature over `input`, in base64url. */
export function signature(
  key: Pick<SigningKey, 'algorithm' | 'privateKey'>,
  input: string,
): string {
  const { algorithm, privateKey } = key;
  const hash = algorithm.startsWith('Ed') ? null : `sha${algorithm.slice(2)}`;
  return sign(hash, Buffer.from(input), {
    key: privateKey,
    ...(algorithm.startsWith('ES') ? { dsaEncoding: 'ieee-p1363' as const } : {}),
    ...(algorithm.startsWith('PS')
      ? { padding: 6, saltLength: Number(algorithm.slice(2)) / 8 }
      : {}),
  }).toString('base64url');
}

export function encode(value: object | string | Buffer): string {
  if (typeof value === 'string' || Buffer.isBuffer(value))
    return Buffer.from(value).toString('base64url');
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
