import { HardeningError } from './errors.ts';

/** How large an input may be, whatever its schema says. */
export interface InputBounds {
  /** Of the encoded text. Default 102,400 (100 KiB). */
  readonly maxBytes?: number;
  /** How many objects and arrays may be inside one another. Default 20; at most 200, because validating needs the stack. */
  readonly maxDepth?: number;
  /** Members of all objects together. Default 1,000. */
  readonly maxKeys?: number;
}

/** zod needs a few dozen frames of the stack for each level of a schema that contains itself. */
const MAX_DEPTH = 200;

/** The bounds in force. */
export type Bounds = Required<InputBounds>;

/**
 * Fills in and checks bounds.
 * @throws TypeError for a bound that is not a positive integer, and for a depth above 200.
 */
export function inputBounds(options: InputBounds): Bounds {
  const bounds: Bounds = {
    maxBytes: options.maxBytes ?? 102_400,
    maxDepth: options.maxDepth ?? 20,
    maxKeys: options.maxKeys ?? 1000,
  };
  for (const [name, value] of Object.entries(bounds)) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new TypeError(`input: ${name} must be an integer of 1 or more`);
    }
  }
  if (bounds.maxDepth > MAX_DEPTH) {
    throw new TypeError(`input: maxDepth must be at most ${MAX_DEPTH}`);
  }
  return bounds;
}

/**
 * Reads JSON (RFC 8259) of bounded size. The text is measured before anything is built from it. Refused as malformed, because readers disagree on what
 * they mean: a byte order mark, bytes that are not UTF-8, the same name twice in one object, and names that reach for a prototype.
 * @throws HardeningError `ERR_HARDENING_INPUT_TOO_LARGE`, `…_TOO_DEEP`, `…_TOO_MANY_KEYS`, `…_MALFORMED`; never with what was sent.
 */
export function parseJson(body: Uint8Array | string, bounds: Bounds): unknown {
  // A text has no fewer bytes than UTF-16 units: one that is far too long is not even counted.
  const isTooLong =
    body.length > bounds.maxBytes ||
    (typeof body === 'string' && Buffer.byteLength(body) > bounds.maxBytes);
  if (isTooLong) throw tooLarge(bounds);
  const text = typeof body === 'string' ? body : decode(body);
  measure(text, bounds);
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the text: it must not become a cause.
    throw malformed('The input is not JSON.');
  }
}

/**
 * Measures a value that somebody else has parsed: an upper bound for its objects, a lower one for its bytes.
 * @throws HardeningError as `parseJson` does.
 */
export function measureValue(value: unknown, bounds: Bounds): void {
  let keys = 0;
  let bytes = 0;
  const walk = (part: unknown, depth: number, key: string): void => {
    bytes += typeof part === 'string' ? part.length + 2 : 1;
    if (bytes > bounds.maxBytes) throw tooLarge(bounds);
    if (typeof part !== 'object' || part === null || ArrayBuffer.isView(part)) return;
    if (depth >= bounds.maxDepth) throw tooDeep(bounds);
    if (Array.isArray(part)) {
      for (const item of part) walk(item, depth + 1, '');
      return;
    }
    for (const name of Object.keys(part)) {
      keys += 1;
      bytes += name.length + 3;
      if (keys > bounds.maxKeys) throw tooManyKeys(bounds);
      if (reachesPrototype(name, key)) throw malformed('A name in the input is not allowed.');
      walk((part as Readonly<Record<string, unknown>>)[name], depth + 1, name);
    }
  };
  walk(value, 0, '');
}

export function malformed(message: string): HardeningError {
  return new HardeningError('ERR_HARDENING_INPUT_MALFORMED', message);
}

function tooLarge({ maxBytes }: Bounds): HardeningError {
  return new HardeningError(
    'ERR_HARDENING_INPUT_TOO_LARGE',
    `The input is larger than ${maxBytes} bytes.`,
  );
}

function tooDeep({ maxDepth }: Bounds): HardeningError {
  return new HardeningError(
    'ERR_HARDENING_INPUT_TOO_DEEP',
    `The input is nested deeper than ${maxDepth} levels.`,
  );
}

export function tooManyKeys({ maxKeys }: Bounds): HardeningError {
  return new HardeningError(
    'ERR_HARDENING_INPUT_TOO_MANY_KEYS',
    `The input has more than ${maxKeys} names.`,
  );
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed('The input is not UTF-8.');
  }
}

/** An object or array that has begun. Arrays have no names. */
interface Open {
  readonly names: Set<string> | undefined;
  /** The name of the member it is the value of. */
  readonly key: string;
  lastKey: string;
  isNameNext: boolean;
}

/** One pass over the text that stops at the first bound. Exact for JSON; what is not JSON is left to the parser. */
function measure(text: string, bounds: Bounds): void {
  const open: Open[] = [];
  let inner: Open | undefined;
  let keys = 0;
  for (let at = 0; at < text.length; at += 1) {
    switch (text.charCodeAt(at)) {
      case 0x22: {
        const end = endOfString(text, at);
        if (inner?.names && inner.isNameNext) {
          keys += 1;
          if (keys > bounds.maxKeys) throw tooManyKeys(bounds);
          inner.lastKey = checkedName(text.slice(at, end + 1), inner.names, inner.key);
          inner.isNameNext = false;
        }
        at = end;
        break;
      }
      case 0x2c: // ,
        if (inner) inner.isNameNext = true;
        break;
      case 0x7b: // {
      case 0x5b: // [
        if (open.length >= bounds.maxDepth) throw tooDeep(bounds);
        inner = {
          names: text.charCodeAt(at) === 0x7b ? new Set() : undefined,
          key: inner?.lastKey ?? '',
          lastKey: '',
          isNameNext: true,
        };
        open.push(inner);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        inner = open.at(-1);
        break;
    }
  }
}

/** Where the string that begins at `start` ends: at its quotation mark, or with the text. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  while (end !== -1 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end === -1 ? text.length : end;
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0;
  while (text.charCodeAt(at - 1 - backslashes) === 0x5c) backslashes += 1;
  return backslashes % 2 === 1;
}

function checkedName(quoted: string, names: Set<string>, parent: string): string {
  let name = quoted.slice(1, -1);
  if (name.includes('\\')) {
    try {
      name = JSON.parse(quoted) as string;
    } catch {
      throw malformed('The input is not JSON.');
    }
  }
  if (reachesPrototype(name, parent)) throw malformed('A name in the input is not allowed.');
  if (names.has(name)) throw malformed('A name occurs twice in one object.');
  names.add(name);
  return name;
}

/** Either way to an object's prototype, for whoever copies members one by one (CWE-1321). */
function reachesPrototype(name: string, parent: string): boolean {
  return name === '__proto__' || (name === 'prototype' && parent === 'constructor');
}
