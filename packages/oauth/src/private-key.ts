import { createPrivateKey, type JsonWebKey, KeyObject } from 'node:crypto';

/** A private key: a `KeyObject`, PEM (PKCS #8 or SEC 1) or a JWK. */
export type PrivateKeyInput = KeyObject | string | JsonWebKey;

/** @throws TypeError when it is not a private key; the message does not show it. */
export function importPrivateKey(input: PrivateKeyInput, option: string): KeyObject {
  let key: KeyObject;
  try {
    if (input instanceof KeyObject) key = input;
    else if (typeof input === 'string') key = createPrivateKey(input);
    else key = createPrivateKey({ key: input, format: 'jwk' });
  } catch {
    throw new TypeError(`${option} must be a private key: a KeyObject, PEM or a JWK`);
  }
  if (key.type !== 'private') throw new TypeError(`${option} must be a private key`);
  return key;
}

const CURVES: Readonly<Record<string, string>> = {
  prime256v1: 'ES256',
  secp384r1: 'ES384',
  secp521r1: 'ES512',
};

/**
 * The JWS algorithm a key signs with. RSA keys sign with PS256 unless told otherwise.
 * @throws TypeError for keys that are too weak, or that JOSE has no algorithm for.
 */
export function signatureAlgorithm(key: KeyObject, option: string, wanted?: string): string {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'rsa') {
    if ((details?.modulusLength ?? 0) < 2048) {
      throw new TypeError(`${option} must be an RSA key of at least 2048 bits`);
    }
    const alg = wanted ?? 'PS256';
    if (/^[PR]S(256|384|512)$/.test(alg)) return alg;
  } else {
    const alg = type === 'ed25519' ? 'Ed25519' : CURVES[details?.namedCurve ?? ''];
    if (alg !== undefined && (wanted === undefined || wanted === alg)) return alg;
  }
  throw new TypeError(
    `${option} must be an RSA, P-256, P-384, P-521 or Ed25519 key that can sign with the algorithm`,
  );
}
