import { createHmac, createSecretKey, KeyObject, timingSafeEqual } from 'node:crypto';
import { noTime, timeOf } from './clock.ts';
import { assertFunction, assertKnown, positive } from './options.ts';

/** Nonces for DPoP proofs (RFC 9449 §9): a proof that holds one was not made long in advance. */
export interface DpopNonces {
  /** The nonce proofs should hold now. @throws JwtError `ERR_JWT_CLOCK` when the clock gives no time. */
  issue(): string;
  /** Whether the nonce was issued in this period or the one before. @throws JwtError `ERR_JWT_CLOCK` as `issue`. */
  accepts(nonce: string): boolean;
}

export interface DpopNoncesOptions {
  /** At least 32 bytes each. The first one makes nonces, all of them are accepted: that is how they are rotated. */
  readonly secrets: readonly (Uint8Array | KeyObject)[];
  /** How long one nonce is handed out, in seconds; it is accepted for up to twice as long. Default 120. */
  readonly periodSeconds?: number;
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

const TAG_BYTES = 16;

/**
 * Nonces that need no memory: an authenticated number of the period they were issued in. All processes that share the
 * secrets accept each other's.
 * @throws TypeError naming the option that is wrong
 */
export function dpopNonces(options: DpopNoncesOptions): DpopNonces {
  assertKnown('nonces option', options, ['secrets', 'periodSeconds', 'now']);
  const { now = Date.now } = options;
  assertFunction('now', now);
  const periodMs = positive('periodSeconds', options.periodSeconds ?? 120) * 1000;
  if (!Array.isArray(options.secrets)) throw new TypeError('secrets must be a list');
  const [current, ...older] = options.secrets.map(importSecret);
  if (current === undefined) throw new TypeError('secrets must hold at least one secret');
  const keys = [current, ...older];

  const periodNow = (): number => {
    const nowMs = timeOf(now);
    if (nowMs < 0) throw noTime();
    return Math.floor(nowMs / periodMs);
  };

  return {
    issue: () => nonceOf(current, periodNow()),
    accepts(nonce) {
      const period = periodNow();
      const given = Buffer.from(nonce);
      return keys.some((key) =>
        [period, Math.max(0, period - 1)].some((one) => {
          const expected = Buffer.from(nonceOf(key, one));
          return expected.length === given.length && timingSafeEqual(expected, given);
        }),
      );
    },
  };
}

function nonceOf(key: KeyObject, period: number): string {
  const number = Buffer.alloc(6);
  number.writeUIntBE(period, 0, 6);
  const tag = createHmac('sha256', key).update('dpop-nonce').update(number).digest();
  return Buffer.concat([number, tag.subarray(0, TAG_BYTES)]).toString('base64url');
}

function importSecret(secret: Uint8Array | KeyObject): KeyObject {
  const key = secret instanceof KeyObject ? secret : createSecretKey(secret);
  if (key.type !== 'secret' || (key.symmetricKeySize ?? 0) < 32)
    throw new TypeError('secrets must hold secrets of at least 32 bytes');
  return key;
}
