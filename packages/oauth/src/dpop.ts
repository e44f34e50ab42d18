import {
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  randomUUID,
} from 'node:crypto';
import { assertKnown } from '@countersign/options';
import { SignJWT } from 'jose';
import { importPrivateKey, type PrivateKeyInput, signatureAlgorithm } from './private-key.ts';

/** The request a proof is for (RFC 9449 §4.2). */
export interface DpopRequest {
  readonly method: string;
  /** Query and fragment are left out of the proof. */
  readonly url: string | URL;
  /** The server's nonce, where it gave one. */
  readonly nonce?: string | undefined;
  readonly accessToken?: string;
}

/** A key that tokens are bound to. */
export interface DpopKey {
  /** RFC 7638, SHA-256: the `jkt` of the tokens bound to it. */
  readonly thumbprint: string;
  proof(request: DpopRequest): Promise<string>;
}

/** `true` makes an ES256 key for this process; processes that share a token must share the key. */
export type DpopOption = true | { readonly key: PrivateKeyInput };

export function dpopKey(option: DpopOption, now: () => number): DpopKey {
  if (option !== true) assertKnown(option, { key: true });
  const privateKey =
    option === true
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
      : importPrivateKey(option.key, 'dpop.key');
  const alg = signatureAlgorithm(privateKey, 'dpop.key');
  const jwk = publicJwk(privateKey);
  return {
    thumbprint: thumbprint(jwk),
    proof: ({ method, url, nonce, accessToken }) => {
      const { origin, pathname } = new URL(url);
      return new SignJWT({
        jti: randomUUID(),
        htm: method,
        htu: origin + pathname,
        ...(nonce === undefined ? {} : { nonce }),
        ...(accessToken === undefined ? {} : { ath: sha256(accessToken) }),
      })
        .setProtectedHeader({ alg, typ: 'dpop+jwt', jwk: jwk as Record<string, string> })
        .setIssuedAt(Math.floor(now() / 1000))
        .sign(privateKey);
    },
  };
}

/** RFC 7638. The members are required ones, in lexicographic order. */
export function thumbprint(jwk: JsonWebKey): string {
  const { crv, e, kty, n, x, y } = jwk;
  return sha256(JSON.stringify({ crv, e, kty, n, x, y }));
}

export function publicJwk(privateKey: KeyObject): JsonWebKey {
  return createPublicKey(privateKey as never).export({ format: 'jwk' });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
