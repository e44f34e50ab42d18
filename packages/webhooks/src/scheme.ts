import type { Algorithm, KeyUse, SchemeKey, Secret } from './secret.ts';

/** One signature as it stands in a header, without the scheme's mark. */
export interface Signature {
  readonly algorithm: Algorithm;
  /** In the scheme's encoding. */
  readonly value: string;
}

/** What a signature header says. */
export interface SignatureHeader {
  /** Those that the scheme understands, in order; never more than {@link MAX_SIGNATURES}. */
  readonly signatures: readonly Signature[];
  /** The timestamp, for schemes that put it into the same header. */
  readonly timestamp?: string;
}

/**
 * Where the id comes from by which deliveries of one event are recognised.
 * `'header'`: the scheme's id header. A function: reads it from the verified body (see `jsonField`, `bodyDigest`).
 */
export type IdSource = 'header' | ((body: Uint8Array | string) => string | undefined);

/**
 * How one sender's webhooks are signed. A scheme is a value without state; to support another sender, write one:
 * the signer and the verifier do everything else (rotation, limits, clocks, comparison in constant time).
 */
export interface Scheme {
  /** For errors and events. */
  readonly name: string;
  /** The header names it uses, in any letter case; they are written in lower case. */
  readonly headers: {
    readonly signature: string;
    readonly timestamp?: string;
    readonly id?: string;
  };
  /** How signatures are written. */
  readonly encoding: 'base64' | 'hex';
  /** Whether a timestamp is signed. Without one, only the id can tell a replay. */
  readonly timestamped: boolean;
  /** Absent: `verify` finds no id, and receivers refuse to be built. */
  readonly idFrom?: IdSource;
  /** @throws TypeError when the secret is not one of this scheme's, is too short, or cannot be used so. */
  importSecret(secret: Secret, use: KeyUse): SchemeKey;
  /** What is signed before the body's bytes. */
  prefix(id: string, timestamp: string): string;
  /** Writes the signature header. */
  format(signatures: readonly Signature[], timestamp: string): string;
  /** Reads the signature header; `undefined` when it is not of the scheme's form. */
  parse(header: string): SignatureHeader | undefined;
}

/** No more signatures than this are looked at in one request, and no more secrets can be configured. */
export const MAX_SIGNATURES = 16;

/** A signature header longer than this, in characters, is refused unread. 16 ed25519 signatures take about 1,500. */
export const MAX_SIGNATURE_HEADER_LENGTH = 4096;

/** The scheme's header names as they are sent and looked up. */
export function lowerCase({ headers }: Scheme): {
  readonly signature: string;
  readonly timestamp: string | undefined;
  readonly id: string | undefined;
} {
  const { signature, timestamp, id } = headers;
  return {
    signature: signature.toLowerCase(),
    timestamp: timestamp?.toLowerCase(),
    id: id?.toLowerCase(),
  };
}

/** Splits a header at `separator`, giving up after as many parts as could matter. */
export function boundedSplit(header: string, separator: string): readonly string[] {
  return header.split(separator, MAX_SIGNATURES + 1);
}
