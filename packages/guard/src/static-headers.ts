import {
  IncomingMessage,
  ServerResponse,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http';
import { Socket } from 'node:net';
import type { HeaderEntry } from './verdict.ts';

type Lines = readonly HeaderEntry[];

/** Header lines that are the same on many responses, as they go over the wire. */
export interface HeaderBlock {
  readonly text: string;
  /** In lower case. */
  readonly names: ReadonlySet<string>;
  /** How many entries, at the beginning of a list, it stands for. */
  readonly length: number;
}

/** Fields by which node:http decides how a message is sent. */
const framing: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'date',
  'expect',
  'keep-alive',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

const blocks = new WeakMap<Lines, HeaderBlock | undefined>();
const joints = new WeakMap<Lines, WeakMap<Lines, Lines>>();
const beginning = Symbol('countersign.guard.static');
type Mixed = Lines & { readonly [beginning]?: Lines };

/**
 * The block at the beginning of a list. Only what is frozen, its entries too, is taken for the same on every response, and serialised and checked once;
 * lines that are made for one response follow.
 * @throws TypeError for a line that HTTP does not allow.
 */
export function blockOf(
  entries: Lines,
  isList: (name: string) => boolean,
): HeaderBlock | undefined {
  const lines = (entries as Mixed)[beginning] ?? entries;
  const known = blocks.get(lines);
  if (known !== undefined || blocks.has(lines)) return known;
  if (!isStatic(lines)) return undefined;
  const block = serialised(lines, isList);
  blocks.set(lines, block);
  return block;
}

/** One list behind the other; of two that are static, always the same. */
export function joined(earlier: Lines, later: Lines): Lines {
  if (earlier.length === 0) return later;
  if (later.length === 0) return earlier;
  const known = joints.get(earlier)?.get(later);
  if (known) return known;
  const first = (earlier as Mixed)[beginning] ?? (isStatic(earlier) ? earlier : undefined);
  const both = [...earlier, ...later];
  if (first === earlier && isStatic(later)) {
    Object.freeze(both);
    const followers = joints.get(earlier) ?? new WeakMap<Lines, Lines>();
    joints.set(earlier, followers.set(later, both));
    return both;
  }
  return first ? Object.defineProperty(both, beginning, { value: first }) : both;
}

/** node:http keeps a head that it has composed as a text until the first bytes leave. Where it does not, nothing is put behind it. */
export const canAppend: boolean = (() => {
  const probe = new ServerResponse(new IncomingMessage(new Socket()));
  probe.writeHead(200);
  const { _header: head } = probe as unknown as { _header?: unknown };
  return typeof head === 'string' && head.endsWith('\r\n\r\n');
})();

/** Puts a block behind the fields of a head that `writeHead` has composed. */
export function append(res: ServerResponse, { text }: HeaderBlock): void {
  const composed = res as unknown as { _header: string };
  composed._header = `${composed._header.slice(0, -2)}${text}\r\n`;
}

function isStatic(lines: Lines): boolean {
  return Object.isFrozen(lines) && lines.every((line) => Object.isFrozen(line));
}

function serialised(lines: Lines, isList: (name: string) => boolean): HeaderBlock | undefined {
  const kept: (readonly [lower: string, name: string, value: string])[] = [];
  for (const [name, value] of lines) {
    validateHeaderName(name);
    validateHeaderValue(name, value);
    const lower = name.toLowerCase();
    if (framing.has(lower)) return undefined;
    const at = kept.findIndex(
      ([known, , before]) => known === lower && (!isList(lower) || before === value),
    );
    if (at >= 0) kept.splice(at, 1);
    kept.push([lower, name, value]);
  }
  return {
    text: kept.map(([, name, value]) => `${name}: ${value}\r\n`).join(''),
    names: new Set(kept.map(([lower]) => lower)),
    length: lines.length,
  };
}
