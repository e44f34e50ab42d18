import { IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chain, type HeaderEntry, type Pass } from '../src/index.ts';
import { addHeaders, staticBlock } from '../src/response-headers.ts';
import { joined } from '../src/static-headers.ts';

type Lines = readonly HeaderEntry[];

const frozen = (lines: Lines): Lines =>
  Object.freeze(lines.map(([name, value]) => Object.freeze([name, value] as const)));

const names = fc.constantFrom(
  'X-Frame-Options',
  'x-frame-options',
  'Cache-Control',
  'Vary',
  'vary',
  'Set-Cookie',
  'Server',
  'X-Powered-By',
  'X-One',
  'Connection',
);
const entry = fc.tuple(names, fc.constantFrom('a', 'b', 'close'));
const lines = fc.array(entry, { maxLength: 5 });

/** The head that goes over the wire, its lines sorted: their order among different fields means nothing. */
function headOf(lists: readonly Lines[], set: Lines, given: Lines | undefined): readonly string[] {
  const res = new ServerResponse(new IncomingMessage(new Socket()));
  res.sendDate = false;
  for (const [name, value] of set) res.setHeader(name, value);
  addHeaders(res, lists.reduce(joined, []));
  if (given) res.writeHead(200, Object.fromEntries(given));
  else res.writeHead(200);
  const { _header: head } = res as unknown as { _header: string };
  expect(head.endsWith('\r\n\r\n')).toBe(true);
  return head
    .trimEnd()
    .split('\r\n')
    .map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()))
    .sort();
}

describe('header lines that are the same on every response', () => {
  test('come to the same as those that are made for one', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(lines, fc.boolean()), { maxLength: 3 }),
        lines,
        fc.option(lines, { nil: undefined }),
        (lists, set, given) => {
          // The handler has its fields from an object: of a name in two spellings node:http takes both.
          const own = (all: Lines): Lines => [
            ...new Map(all.map((line) => [line[0].toLowerCase(), line])).values(),
          ];
          const plain = lists.map(([list]) => [...list]);
          const mixed = lists.map(([list, isStatic]) => (isStatic ? frozen(list) : [...list]));
          const fields = given && own(given);
          expect(headOf(mixed, own(set), fields)).toEqual(headOf(plain, own(set), fields));
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('are put together once', () => {
    const one = frozen([['x-one', '1']]);
    const two = frozen([['x-two', '2']]);
    expect(joined(one, two)).toBe(joined(one, two));
    expect(staticBlock(joined(one, two))).toBe(staticBlock(joined(one, two)));
    expect(staticBlock(joined(one, two))?.text).toBe('x-one: 1\r\nx-two: 2\r\n');
  });

  test('stay so before those that are made for one response', () => {
    const one = frozen([['x-one', '1']]);
    const all = joined(joined(one, [['x-id', '7']]), frozen([['x-two', '2']]));
    expect(all).toEqual([
      ['x-one', '1'],
      ['x-id', '7'],
      ['x-two', '2'],
    ]);
    expect(staticBlock(all)).toMatchObject({ text: 'x-one: 1\r\n', length: 1 });
  });

  test('are frozen, their entries too: what could change is looked at each time', () => {
    expect(staticBlock([['x-one', '1']])).toBeUndefined();
    expect(staticBlock(Object.freeze([['x-one', '1'] as const]))).toBeUndefined();
    expect(staticBlock(frozen([['x-one', '1']]))).toBeDefined();
  });

  test('never decide how a message is sent, and are checked like all others', () => {
    expect(staticBlock(frozen([['Connection', 'close']]))).toBeUndefined();
    expect(() => staticBlock(frozen([['x-one', '1\r\nx-two: 2']]))).toThrow(TypeError);
  });

  test('leave the lists of the guards as they are', () => {
    const own: HeaderEntry[] = [['x-one', '1']];
    const guard = (): Pass<undefined> => ({ pass: true, context: undefined, headers: own });
    const verdict = chain().use('a', guard).use('b', guard)({ path: '/' } as never, {});
    expect(verdict).toMatchObject({
      headers: [
        ['x-one', '1'],
        ['x-one', '1'],
      ],
    });
    expect(own).toHaveLength(1);
  });
});
