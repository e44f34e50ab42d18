import type { KeyObject } from 'node:crypto';
import { type Hmac, hmacSha256 } from './hmac.ts';
import { MAX_SIGNATURES, type Scheme } from './scheme.ts';
import type { KeyUse, Secret } from './secret.ts';

/** One secret, or several while a secret is rotated: the sender signs with all, the receiver tries all. */
export type Secrets = Secret | readonly Secret[];

/** Fetches the secrets. Called for every message: return the same array while nothing has changed, it is imported once. */
export type SecretsProvider = () => Promise<readonly Secret[]>;

/** A key, ready to sign or to verify. */
export type ImportedKey =
  | { readonly algorithm: 'hmac-sha256'; readonly hmac: Hmac }
  | { readonly algorithm: 'ed25519'; readonly key: KeyObject };

/** Imports secrets once, so that signing and verifying do not. */
export function importSecrets(
  secrets: Secrets,
  scheme: Scheme,
  use: KeyUse,
): readonly ImportedKey[] {
  const list = Array.isArray(secrets) ? (secrets as readonly Secret[]) : [secrets as Secret];
  if (list.length === 0 || list.length > MAX_SIGNATURES) {
    throw new TypeError(`secrets must hold 1 to ${MAX_SIGNATURES} secrets`);
  }
  return list.map((secret) => {
    const { algorithm, key } = scheme.importSecret(secret, use);
    return algorithm === 'ed25519' ? { algorithm, key } : { algorithm, hmac: hmacSha256(key) };
  });
}

/** Turns a provider into a function that hands out what `create` made of its latest answer. */
export function refreshed<T>(
  provider: SecretsProvider,
  create: (secrets: readonly Secret[]) => T,
): () => Promise<T> {
  let current: { readonly secrets: readonly Secret[]; readonly made: T } | undefined;
  return async () => {
    const secrets = await provider();
    if (current?.secrets !== secrets) current = { secrets, made: create(secrets) };
    return current.made;
  };
}
