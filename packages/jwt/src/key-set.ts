import { JwtError } from './errors.ts';
import type { VerificationKey } from './keys.ts';

/** The keys of one issuer at one time. It never changes: newer keys make a new set. */
export interface KeySet {
  readonly keys: readonly VerificationKey[];
  /** `undefined` when no key has this `kid` for this algorithm. @throws JwtError when more than one could be meant. */
  find(algorithm: string, kid: string | undefined): VerificationKey | undefined;
}

/** @param anyKid - a token's `kid` does not matter: for one key the user chose. Default false. */
export function keySet(keys: readonly VerificationKey[], anyKid = false): KeySet {
  return {
    keys,
    find(algorithm, kid) {
      let found: VerificationKey | undefined;
      for (const key of keys) {
        if (key.algorithm !== algorithm) continue;
        if (!anyKid && kid !== undefined && key.kid !== kid) continue;
        if (found !== undefined) {
          throw new JwtError('ERR_JWT_KEY_AMBIGUOUS', 'More than one key could be meant');
        }
        found = key;
      }
      return found;
    },
  };
}

/** Where a verifier gets an issuer's keys from. Its times are milliseconds that never go back. */
export interface KeySource {
  /** The keys, if they may be used at this time without waiting. Starts whatever refreshing is due. */
  current(nowMs: number): KeySet | undefined;
  /** Waits for keys. @throws JwtError `ERR_JWT_KEYS_UNAVAILABLE` */
  load(nowMs: number): Promise<KeySet>;
  /** Asks the issuer about an unknown `kid`; `undefined` when it may not be asked again yet. */
  reload(nowMs: number): Promise<KeySet> | undefined;
  close(): void;
}

/** Keys that are known from the start. */
export function staticKeys(set: KeySet): KeySource {
  return {
    current: () => set,
    load: async () => set,
    reload: () => undefined,
    close: () => undefined,
  };
}
