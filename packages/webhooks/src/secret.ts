import {
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  generateKeyPairSync,
  KeyObject,
  randomBytes,
} from 'node:crypto';

/**
 * A signing secret: text in the scheme's own notation, raw bytes, or a `KeyObject`
 * (of type `secret` for HMAC; `private` or `public`, ed25519, for signatures).
 */
export type Secret = string | Uint8Array | KeyObject;

/** What a secret is wanted for: a public key verifies but cannot sign. */
export type KeyUse = 'sign' | 'verify';

export type Algorithm = 'hmac-sha256' | 'ed25519';

/** A secret, imported. */
export interface SchemeKey {
  readonly algorithm: Algorithm;
  readonly key: KeyObject;
}

/** Standard Webhooks, "Signature scheme": from 192 to 512 bits. */
const STANDARD_BYTES = { least: 24, most: 64 } as const;
const ED25519_BYTES = 32;
// RFC 8410 §7, §4: the DER that stands before the 32 bytes of an ed25519 private and public key.
const PRIVATE_KEY_DER = Buffer.from('302e020100300506032b657004220420', 'hex');
const PUBLIC_KEY_DER = Buffer.from('302a300506032b6570032100', 'hex');

/** A new symmetric secret, `whsec_…`, of `bytes` random bytes (24 to 64, default 32). */
export function generateSecret(bytes = 32): string {
  if (!(Number.isInteger(bytes) && bytes >= STANDARD_BYTES.least && bytes <= STANDARD_BYTES.most)) {
    throw new TypeError('bytes must be a whole number from 24 to 64');
  }
  return `whsec_${randomBytes(bytes).toString('base64')}`;
}

/** A new ed25519 key pair: `whsk_…` signs and stays with the sender, `whpk_…` verifies and may be published. */
export function generateKeyPair(): { readonly privateKey: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = lastBytes(privateKey.export({ format: 'der', type: 'pkcs8' }));
  const point = lastBytes(publicKey.export({ format: 'der', type: 'spki' }));
  return {
    privateKey: `whsk_${Buffer.concat([seed, point]).toString('base64')}`,
    publicKey: `whpk_${point.toString('base64')}`,
  };
}

/** The `whpk_…` that belongs to a `whsk_…`. */
export function publicKeyOf(privateKey: string): string {
  const { key } = importStandardSecret(privateKey, 'sign');
  if (key.type !== 'private') throw new TypeError('privateKey must be a whsk_ key');
  const point = lastBytes(createPublicKey(key).export({ format: 'der', type: 'spki' }));
  return `whpk_${point.toString('base64')}`;
}

/** Imports a secret in the notation of Standard Webhooks: `whsec_`, `whsk_`, `whpk_` or bare base64. */
export function importStandardSecret(secret: Secret, use: KeyUse): SchemeKey {
  if (typeof secret !== 'string') return importBytes(secret, use, STANDARD_BYTES);
  if (secret.startsWith('whsk_')) return ed25519(privateKeyFrom(decoded(secret, 5)), use);
  if (secret.startsWith('whpk_')) return ed25519(publicKeyFrom(decoded(secret, 5)), use);
  const bytes = decoded(secret, secret.startsWith('whsec_') ? 6 : 0);
  return importBytes(bytes, use, STANDARD_BYTES);
}

/** Imports a secret whose text is the key itself, as its UTF-8 bytes (Stripe, GitHub, Slack, Shopify). */
export function importTextSecret(secret: Secret, use: KeyUse): SchemeKey {
  const limits = { least: 16, most: 1024 };
  if (typeof secret !== 'string') return importHmacOnly(importBytes(secret, use, limits));
  if (secret.trim() !== secret) {
    throw new TypeError('secrets: a secret must not begin or end with white space');
  }
  return importBytes(Buffer.from(secret, 'utf8'), use, limits);
}

function importHmacOnly(key: SchemeKey): SchemeKey {
  if (key.algorithm !== 'hmac-sha256') {
    throw new TypeError('secrets: this scheme takes HMAC secrets only');
  }
  return key;
}

function importBytes(
  secret: Uint8Array | KeyObject,
  use: KeyUse,
  { least, most }: { readonly least: number; readonly most: number },
): SchemeKey {
  if (secret instanceof KeyObject && secret.type !== 'secret') return ed25519(secret, use);
  if (!(secret instanceof KeyObject || secret instanceof Uint8Array)) {
    throw new TypeError('secrets: a secret must be a string, a Uint8Array or a KeyObject');
  }
  const size = secret instanceof KeyObject ? (secret.symmetricKeySize ?? 0) : secret.byteLength;
  if (size < least || size > most) {
    throw new TypeError(`secrets: a secret must be ${least} to ${most} bytes long, not ${size}`);
  }
  // node:crypto takes a raw key only by importing it again on every call: four to five times slower.
  const key = secret instanceof KeyObject ? secret : createSecretKey(secret);
  return { algorithm: 'hmac-sha256', key };
}

function ed25519(key: KeyObject, use: KeyUse): SchemeKey {
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new TypeError('secrets: an asymmetric key must be an ed25519 key');
  }
  if (use === 'sign' && key.type !== 'private') {
    throw new TypeError('secrets: a public key cannot sign; pass the private key (whsk_…)');
  }
  const wanted = use === 'verify' && key.type === 'private' ? createPublicKey(key) : key;
  return { algorithm: 'ed25519', key: wanted };
}

function privateKeyFrom(bytes: Buffer): KeyObject {
  if (bytes.length !== ED25519_BYTES && bytes.length !== 2 * ED25519_BYTES) {
    throw new TypeError(
      'secrets: a whsk_ key must hold 32 bytes (seed) or 64 (seed and public key)',
    );
  }
  const der = Buffer.concat([PRIVATE_KEY_DER, bytes.subarray(0, ED25519_BYTES)]);
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const stated = bytes.subarray(ED25519_BYTES);
  const derived = lastBytes(createPublicKey(key).export({ format: 'der', type: 'spki' }));
  if (stated.length > 0 && !stated.equals(derived)) {
    throw new TypeError('secrets: the two halves of a whsk_ key do not belong together');
  }
  return key;
}

function publicKeyFrom(bytes: Buffer): KeyObject {
  if (bytes.length !== ED25519_BYTES) {
    throw new TypeError('secrets: a whpk_ key must hold 32 bytes');
  }
  const der = Buffer.concat([PUBLIC_KEY_DER, bytes]);
  return createPublicKey({ key: der, format: 'der', type: 'spki' });
}

/** Strict base64: `Buffer.from` would skip what it does not know and shorten a key without a word. */
function decoded(secret: string, start: number): Buffer {
  const text = secret.slice(start);
  const bytes = Buffer.from(text, 'base64');
  const canonical = bytes.toString('base64');
  if (canonical !== text && canonical.replace(/=+$/, '') !== text) {
    throw new TypeError('secrets: what follows the prefix of a secret must be base64');
  }
  return bytes;
}

function lastBytes(der: Buffer): Buffer {
  return der.subarray(der.length - ED25519_BYTES);
}
