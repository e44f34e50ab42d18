import { isAscii, isUtf8 } from 'node:buffer';
import { JwtError } from './errors.ts';

/** A JSON object whose members nobody has looked at yet. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** How deep objects and arrays may nest. Real access tokens stay below ten. */
export const MAX_JSON_DEPTH = 16;

const QUOTE = 0x22;
const COLON = 0x3a;
const BACKSLASH = 0x5c;

/**
 * Parses one JSON object from UTF-8, refusing what parsers disagree about: duplicate member names (RFC 7519 §4,
 * RFC 8725 §2.4), invalid UTF-8, half characters, a byte order mark, a member called `__proto__`; and nesting beyond
 * {@link MAX_JSON_DEPTH}, before anything is parsed. The result is frozen all the way down: it may be handed out again.
 */
export function parseJsonObject(bytes: Buffer): JsonObject {
  const text = decodeUtf8(bytes);
  const written = countMembers(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Without a cause: V8 quotes the text it choked on.
    throw new JwtError('ERR_JWT_JSON', 'A part of the token is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new JwtError('ERR_JWT_JSON', 'A part of the token is not a JSON object');
  }
  // JSON.parse keeps the last of several members of one name, so fewer are left than were written.
  if (freezeMembers(value) !== written) {
    throw new JwtError('ERR_JWT_DUPLICATE_MEMBER', 'A member name occurs more than once');
  }
  if (text.includes('\\u') && hasHalfCharacter(value))
    throw new JwtError('ERR_JWT_JSON', 'A text holds half a character');
  return value as JsonObject;
}

/**
 * Whether an escape wrote a lone surrogate (RFC 7493 §2.1). UTF-8 has none, so different ones become the same text once
 * they are stored or sent: two subjects would be one. `JSON.stringify` writes only those as escapes.
 */
function hasHalfCharacter(value: object): boolean {
  return JSON.stringify(value).replaceAll('\\\\', '').includes('\\ud');
}

function decodeUtf8(bytes: Buffer): string {
  if (isAscii(bytes)) return bytes.toString('latin1');
  if (!isUtf8(bytes)) throw new JwtError('ERR_JWT_JSON', 'A part of the token is not UTF-8');
  return bytes.toString('utf8');
}

/** Members in the text, which are the colons outside strings. Only meaningful if the text turns out to be JSON. */
function countMembers(text: string): number {
  let members = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(text, at);
    } else if (code === COLON) {
      members += 1;
    } else if (code === 0x7b || code === 0x5b) {
      depth += 1;
      if (depth > MAX_JSON_DEPTH) {
        throw new JwtError('ERR_JWT_JSON', `JSON nested deeper than ${MAX_JSON_DEPTH} levels`);
      }
    } else if (code === 0x7d || code === 0x5d) {
      depth -= 1;
    }
  }
  return members;
}

/** Where the string that opens at `start` closes. */
function endOfString(text: string, start: number): number {
  let at = start;
  for (;;) {
    at = text.indexOf('"', at + 1);
    if (at === -1) throw new JwtError('ERR_JWT_JSON', 'A part of the token is not JSON');
    let backslashes = 0;
    while (text.charCodeAt(at - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return at;
  }
}

/** Freezes all of a value, and says how many members its objects have: one walk for both, since both need it all. */
function freezeMembers(value: object): number {
  let members = 0;
  if (Array.isArray(value)) {
    for (const element of value) {
      if (typeof element === 'object' && element !== null) members += freezeMembers(element);
    }
  } else {
    // `Object.assign({}, claims)` would turn such a member into the prototype of the copy.
    if (Object.hasOwn(value, '__proto__'))
      throw new JwtError('ERR_JWT_JSON', 'A member is called __proto__');
    for (const name in value) {
      members += 1;
      const member = (value as JsonObject)[name];
      if (typeof member === 'object' && member !== null) members += freezeMembers(member);
    }
  }
  Object.freeze(value);
  return members;
}
