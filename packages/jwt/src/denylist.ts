import type { GenericClaims } from './claims.ts';
import { timeOf } from './clock.ts';
import { JwtError } from './errors.ts';
import { storeFailed } from './events.ts';
import { isLater } from './later.ts';
import { memoryDenylistStore } from './memory.ts';
import {
  assertFunction,
  assertKnown,
  assertMethods,
  type DenylistCheck,
  MAX_TOLERANCE_SECONDS,
} from './options.ts';
import type { DenylistStore } from './store.ts';
import { sha256 } from './thumbprint.ts';

/** What identifies a token: who issued it and its `jti`. Never its text, of which an ECDSA signature allows two. */
export interface TokenIdentity {
  readonly iss: string;
  readonly jti: string;
  /** Seconds since 1970: how long the token must stay on the list. */
  readonly exp: number;
}

/** Tokens that are refused before they expire. */
export interface Denylist {
  /**
   * Refuses the token from now on, until it has expired. Takes the claims of a verified token as they are.
   * @throws JwtError `ERR_JWT_CLOCK`, and whatever the store does, as a rejection: the token is not revoked then
   */
  revoke(token: TokenIdentity): Promise<void>;
  /** The `denylist` option of a verifier. @throws JwtError `ERR_JWT_CLAIM_MISSING` for a token without `jti` */
  readonly isRevoked: DenylistCheck;
}

export interface DenylistOptions {
  /** Default: in memory, which only one process can use. */
  readonly store?: DenylistStore;
  /** Default `'closed'`: while the store cannot be asked no token is accepted. `'open'`: revoked ones are, too. */
  readonly onStoreError?: 'closed' | 'open';
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

/** Entries outlive their tokens by this: by what a verifier may tolerate, and as much again for clocks that differ. */
const MARGIN_MS = 2 * MAX_TOLERANCE_SECONDS * 1000;

/** Makes a denylist. @throws TypeError naming the option that is wrong */
export function createDenylist(options: DenylistOptions = {}): Denylist {
  assertKnown('denylist option', options, ['store', 'onStoreError', 'now']);
  const { onStoreError = 'closed', now = Date.now } = options;
  if (onStoreError !== 'closed' && onStoreError !== 'open')
    throw new TypeError("onStoreError must be 'closed' or 'open'");
  assertFunction('now', now);
  assertMethods('store', options.store, ['add', 'has']);
  const store = options.store ?? memoryDenylistStore({ now });

  function failed(cause: unknown): boolean {
    if (storeFailed.hasSubscribers) storeFailed.publish({ store: 'denylist', error: cause });
    if (onStoreError === 'open') return false;
    throw new JwtError('ERR_JWT_DENYLIST_UNAVAILABLE', 'The denylist cannot be asked', { cause });
  }

  return {
    async revoke({ iss, jti, exp }) {
      if (!isText(iss) || !isText(jti) || !Number.isFinite(exp))
        throw new TypeError('a token is revoked by its iss, jti and exp');
      const ttlMs = Math.ceil(exp * 1000 - timeOf(now) + MARGIN_MS);
      if (ttlMs > 0) await store.add(identify(iss, jti), ttlMs);
    },
    isRevoked({ iss, jti }: GenericClaims) {
      if (!isText(jti))
        throw new JwtError('ERR_JWT_CLAIM_MISSING', 'jti is missing', { member: 'jti' });
      try {
        const answer = store.has(identify(iss, jti));
        return isLater(answer) ? Promise.resolve(answer).catch(failed) : answer;
      } catch (error) {
        return failed(error);
      }
    },
  };
}

/** One text for each pair: an issuer cannot name a `jti` so that it means another issuer's token. */
function identify(iss: string, jti: string): string {
  return sha256(JSON.stringify([iss, jti]));
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
