import { randomBase62 } from './base62.ts';
import { CHECKSUM_LENGTH, checksum, endsWithChecksum, MAX_CHECKED_LENGTH } from './checksum.ts';

/** Characters of a key's id. It is no secret: it names the key in logs, lists and commands. */
export const ID_LENGTH = 16;
/** Characters of the secret: 190 bits. */
export const SECRET_LENGTH = 32;
/** The end of an id that a key and all its successors share, so that Redis Cluster keeps them in one slot. */
export const LINEAGE_LENGTH = 8;
/** Characters after the prefix: id, secret, checksum. */
export const BODY_LENGTH: number = ID_LENGTH + SECRET_LENGTH + CHECKSUM_LENGTH;

const ID = /^[0-9A-Za-z]{16}$/;
const NAME = /^[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*$/;
const ENVIRONMENT = /^[A-Za-z0-9]+$/;
const KEY_HEAD = /^([A-Za-z0-9_-]+)([-_])([A-Za-z0-9]+)\2$/;

/** What a service's keys look like: `<brand>-<prefix>-<environment>-<id><secret><checksum>`. */
export interface KeyFormatOptions {
  /** What the key is, `sk` (secret key) or `pk` for instance; may itself contain `-` and `_`. Default `sk`. */
  readonly prefix?: string;
  /** Letters and digits. Default `live`. */
  readonly environment?: string;
  /** Whose key it is, first of all, so that a scanner can tell. Default: none. */
  readonly brand?: string;
  /** Default `-`. With `_`, a double click selects the whole key. */
  readonly separator?: '-' | '_';
}

/** What a key says about itself. The secret is not among it. */
export interface ParsedKey {
  /** What precedes the environment, the brand included. */
  readonly prefix: string;
  readonly environment: string;
  readonly separator: '-' | '_';
  readonly id: string;
}

/** Why a text is no key of this format. */
export type Misread = 'malformed' | 'wrong_environment';

/** A format made from its options: reads and writes keys. */
export interface KeyFormat {
  /** Everything before the id, `sk-live-`. */
  readonly head: string;
  readonly environment: string;
  write(id: string, secret: string): string;
  /** Why the text is no key of this format; `undefined` for one that is. */
  misread(text: string): Misread | undefined;
  /** Where the id is in a text as long as a key of this format; `undefined` for any other. A slice: see `detached`. */
  idIn(text: string): string | undefined;
  /** The first key of this family, of whatever environment, anywhere in the text. */
  readonly find: (text: string) => string | undefined;
}

/** @throws TypeError for a prefix, environment, brand or separator that could not be read back. */
export function keyFormat(options: KeyFormatOptions): KeyFormat {
  const { family, environment, head } = keyHead(options);
  const length = head.length + BODY_LENGTH;
  // No boundary is asked for: a key glued to other text is exposed all the same. Names are letters, digits, `-`, `_`.
  // Looked for ahead, so that what only looks like a key does not use up the beginning of a real one.
  const anywhere = new RegExp(
    `(?=(${family}[A-Za-z0-9]{1,32}${family.at(-1)}[0-9A-Za-z]{${BODY_LENGTH}}))`,
    'g',
  );
  return {
    head,
    environment,
    write: (id, secret) => head + id + secret + checksum(id + secret),
    misread(text) {
      if (text.length !== length || !text.startsWith(head)) return misread(text, family);
      return endsWithChecksum(text, head.length) ? undefined : 'malformed';
    },
    idIn(text) {
      if (text.length !== length) return undefined;
      return text.slice(head.length, head.length + ID_LENGTH);
    },
    find(text) {
      for (const [, candidate = ''] of text.matchAll(anywhere)) {
        if (endsWithChecksum(candidate, candidate.length - BODY_LENGTH)) return candidate;
      }
      return undefined;
    },
  };
}

/** The parts before the id: `family` is brand and prefix, `head` has the environment as well. */
export function keyHead(options: KeyFormatOptions): {
  family: string;
  environment: string;
  head: string;
} {
  const { prefix = 'sk', environment = 'live', brand, separator = '-' } = options;
  assertName('prefix', prefix, NAME);
  if (brand !== undefined) assertName('brand', brand, NAME);
  assertName('environment', environment, ENVIRONMENT);
  if (separator !== '-' && separator !== '_') throw new TypeError('separator must be "-" or "_"');
  const family = `${brand === undefined ? '' : brand + separator}${prefix}${separator}`;
  return { family, environment, head: `${family}${environment}${separator}` };
}

/**
 * Takes a key of any prefix and environment apart; `undefined` when it is none, or mistyped. No store is asked:
 * that it is well-formed says nothing about whether it was ever issued.
 */
export function parseKey(text: string): ParsedKey | undefined {
  if (typeof text !== 'string' || text.length > MAX_CHECKED_LENGTH || text.length <= BODY_LENGTH)
    return undefined;
  const start = text.length - BODY_LENGTH;
  const head = KEY_HEAD.exec(text.slice(0, start));
  if (!head || !endsWithChecksum(text, start)) return undefined;
  const [, prefix = '', separator, environment = ''] = head;
  return {
    prefix: detached(prefix),
    environment: detached(environment),
    separator: separator === '_' ? '_' : '-',
    id: detached(text.slice(start, start + ID_LENGTH)),
  };
}

/** A new id; a successor's shares the lineage of the key that it follows. */
export function newId(predecessorId?: string): string {
  if (predecessorId === undefined) return randomBase62(ID_LENGTH);
  return detached(randomBase62(ID_LENGTH - LINEAGE_LENGTH) + lineage(predecessorId));
}

/** Whether the text may be an id. A whole key, passed for one by mistake, must not get to stores and logs. */
export function isId(text: unknown): text is string {
  return typeof text === 'string' && ID.test(text);
}

/** What a key's id has in common with all its successors'. */
export function lineage(id: string): string {
  return id.slice(-LINEAGE_LENGTH);
}

/** A new secret. */
export function newSecret(): string {
  return randomBase62(SECRET_LENGTH);
}

/**
 * The same text in memory of its own. A slice of a V8 string keeps the whole of it alive: an id cut from a
 * presented key and kept (in a log buffer, a map) would keep the secret in the heap with it.
 */
export function detached(text: string): string {
  return Buffer.from(text, 'utf8').toString('utf8');
}

function misread(text: string, family: string): Misread {
  if (!text.startsWith(family) || text.length > MAX_CHECKED_LENGTH) return 'malformed';
  const start = text.length - BODY_LENGTH;
  const separator = family.at(-1);
  const wellFormed =
    text[start - 1] === separator &&
    ENVIRONMENT.test(text.slice(family.length, start - 1)) &&
    endsWithChecksum(text, start);
  return wellFormed ? 'wrong_environment' : 'malformed';
}

function assertName(option: string, value: unknown, pattern: RegExp): void {
  if (typeof value !== 'string' || value.length > 32 || !pattern.test(value)) {
    throw new TypeError(
      `${option} must be 1 to 32 letters and digits${pattern === NAME ? ', with single "-" or "_" between them' : ''}`,
    );
  }
}
