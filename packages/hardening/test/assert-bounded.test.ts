import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import * as zod3 from 'zod/v3';
import { assertBounded } from '../src/assert-bounded.ts';
import { list } from '../src/list.ts';
import { num } from '../src/num.ts';
import { page } from '../src/page.ts';
import { queryText, text } from '../src/text.ts';

describe('assertBounded', () => {
  test.each<[string, z.ZodType]>([
    ['text()', text()],
    ['queryText()', queryText()],
    ['text() with a pattern', text({ max: 254, pattern: /^[^@\s]+@[^@\s]+\.[^@\s]+$/ })],
    ['text() and a pattern later', text({ max: 64 }).regex(/^\w+$/)],
    ['num()', num({ min: 0, max: 1 })],
    ['num() from text', num({ min: 0, max: 1, from: 'text' })],
    ['list()', list(text())],
    ['page()', page()],
    ['page() by offset', page({ by: 'offset' })],
    [
      'zod with its bounds',
      z.object({ a: z.string().max(5), n: z.number().min(0).max(5), l: z.array(z.int32()).max(2) }),
    ],
    ['an exact length', z.string().length(5)],
    [
      'a length that ends the checking, then a pattern',
      z.string().max(5, { abort: true }).regex(/^a+$/),
    ],
    ['a format behind a bounded text', text({ max: 254 }).pipe(z.email())],
    ['a format behind several', z.union([text({ max: 10 }), text({ max: 36 })]).pipe(z.uuid())],
    [
      'finite things',
      z.tuple([z.boolean(), z.null(), z.literal('a'), z.enum(['a', 'b']), z.undefined()]),
    ],
    ['records with short keys', z.record(text({ max: 20 }), num({ min: 0, max: 1 }))],
    ['wrappers', text().optional().nullable().default('a').readonly().catch('b')],
    [
      'a codec',
      z.codec(text({ max: 40 }), z.date(), { decode: (value) => new Date(value), encode: String }),
    ],
    ['a transformation of what is bounded', text().pipe(z.transform(String).optional())],
    ['a transformation that a later schema reads', z.transform(String).optional().pipe(text())],
    [
      'measured again behind a change',
      text({ max: 500 }).normalize('NFKC').max(500, { abort: true }).regex(/\s+$/),
    ],
    ['a pattern on a union', z.union([text({ max: 9 }), text({ max: 5 })]).check(z.regex(/^a+$/))],
    ['bytes', z.instanceof(Uint8Array).check(z.maxLength(5))],
    ['a big integer', z.bigint().min(0n).max(9n)],
    ['starts with', text().startsWith('a').endsWith('z').includes('m').lowercase()],
    ['unknown that a later schema replaces', z.unknown().pipe(text())],
    ['a harmless pattern of a format', text({ max: 254 }).pipe(z.email({ pattern: /^[^@]+@b$/ }))],
    ['a harmless format', text().pipe(z.stringFormat('x', /^a+$/))],
    ['harmless parts of a URL', text().pipe(z.url({ hostname: /^a\.b$/, protocol: /^https$/ }))],
    ['a harmless template', text({ max: 230 }).pipe(z.templateLiteral(['a', z.string(), '-b']))],
    ...Object.entries({
      ...{ email: z.email(), guid: z.guid(), uuid: z.uuid(), v8: z.uuid({ version: 'v8' }) },
      ...{ url: z.url(), httpUrl: z.httpUrl(), emoji: z.emoji(), nanoid: z.nanoid() },
      ...{ cuid: z.cuid(), cuid2: z.cuid2(), ulid: z.ulid(), xid: z.xid(), ksuid: z.ksuid() },
      ...{ ipv4: z.ipv4(), ipv6: z.ipv6(), cidrv4: z.cidrv4(), cidrv6: z.cidrv6(), jwt: z.jwt() },
      ...{ mac: z.mac({ delimiter: '-' }), base64: z.base64(), base64url: z.base64url() },
      ...{ e164: z.e164(), hostname: z.hostname(), hex: z.hex(), hash: z.hash('sha256') },
      ...{ datetime: z.iso.datetime({ offset: true, local: true }), date: z.iso.date() },
      ...{ time: z.iso.time(), duration: z.iso.duration(), method: z.string().base64() },
      html5: z.email({ pattern: z.regexes.html5Email }),
    }).map(([name, format]): [string, z.ZodType] => [
      `zod's own format ${name}`,
      text({ max: 1_000_000 }).pipe(format),
    ]),
  ])('finds nothing in %s', (_, schema) => {
    expect(() => assertBounded(schema)).not.toThrow();
  });

  test.each<[z.ZodType, string]>([
    [z.string(), '#: string without a maximum length'],
    [z.string().min(5), '#: string without a maximum length'],
    [z.string().max(Number.POSITIVE_INFINITY), '#: string without a maximum length'],
    [z.object({ a: z.object({ b: z.string() }) }), '#/a/b: string without a maximum length'],
    [z.number(), '#: number without a minimum and a maximum'],
    [z.number().min(0), '#: number without a minimum and a maximum'],
    [z.number().min(0).max(Number.POSITIVE_INFINITY), '#: number without a minimum and a maximum'],
    [z.int(), '#: number without a minimum and a maximum'],
    [z.bigint(), '#: bigint without a minimum and a maximum'],
    [z.array(z.boolean()), '#: list without a maximum length'],
    [
      z
        .array(z.boolean())
        .refine(() => true)
        .max(5),
      '#: list whose items are looked at before they are counted',
    ],
    [z.array(z.array(z.string()).max(1)).max(1), '#/[]/[]: string without a maximum length'],
    [z.tuple([z.null()], z.null()), '#: list without a maximum length'],
    [list(z.object({ a: z.string() })), '#/[]/a: string without a maximum length'],
    [z.any(), '#: takes anything'],
    [z.object({ a: z.unknown() }), '#/a: takes anything'],
    [z.custom(() => true), '#: takes anything'],
    [z.unknown().transform(String), '#: takes anything'],
    [z.object({ a: z.transform((value) => value) }), '#/a: takes anything'],
    [z.transform((value) => value).optional(), '#: takes anything'],
    [z.unknown().pipe(z.transform((value) => value).optional()), '#: takes anything'],
    [z.preprocess((value) => value, z.transform(String)), '#: takes anything'],
    // zod measures only what has a length, and nothing that is in it.
    [z.any().check(z.maxLength(5)), '#: takes anything'],
    [z.object({ a: z.unknown().check(z.maxSize(5)) }), '#/a: takes anything'],
    [z.looseRecord(text({ max: 20, pattern: /^x-/ }), z.null()), '#: takes keys of any name'],
    [z.record(z.string(), z.null()), '#/{key}: string without a maximum length'],
    [z.record(text(), z.string()), '#/{}: string without a maximum length'],
    [z.map(text(), z.null()), '#: map without a maximum size'],
    [z.set(text()), '#: set without a maximum size'],
    [z.looseObject({}), '#: takes keys of any name'],
    [z.object({}).catchall(text()), '#: takes keys of any name'],
    [z.union([text(), z.string()]), '#: string without a maximum length'],
    [
      z.intersection(z.object({ a: z.string() }), z.object({})),
      '#/a: string without a maximum length',
    ],
    [z.lazy(() => z.string()), '#: string without a maximum length'],
    [z.string().optional(), '#: string without a maximum length'],
    [z.preprocess((value) => value, z.string()), '#: string without a maximum length'],
    [z.coerce.number().min(0).max(1), '#: coerces'],
    [z.coerce.string().max(5), '#: coerces'],
    [z.coerce.boolean(), '#: coerces'],
    [z.coerce.date(), '#: coerces'],
    [z.string().regex(/^a+$/).max(5), '#: /^a+$/ runs before the length is checked'],
    [z.string().max(5).regex(/^a+$/), '#: /^a+$/ runs before the length is checked'],
    [z.email().max(254), '#: the format email runs before the length is checked'],
    [z.uuid(), '#: the format uuid runs before the length is checked'],
    [z.templateLiteral(['a', z.string()]), '#: a template runs before the length is checked'],
    [text({ max: 230 }).regex(/^(a+)+$/), '#: /^(a+)+$/ may take too long on 230 characters'],
    [text().regex(/\s+$/), '#: /\\s+$/ may take too long on 10000 characters'],
    [text().pipe(z.string().regex(/(x+x+)+y/)), '#: /(x+x+)+y/ may take too long'],
    [
      text({ max: 500 }).normalize('NFKC').regex(/\s+$/),
      '#: /\\s+$/ may take too long on 9000 characters',
    ],
    [
      text({ max: 500 }).normalize('NFKC').pipe(z.string().regex(/\s+$/)),
      '#: /\\s+$/ may take too long on 9000 characters',
    ],
    [
      z.union([text({ max: 230 }), text({ max: 23 })]).check(z.regex(/^(a+)+$/)),
      '#: /^(a+)+$/ may take too long on 230 characters',
    ],
    [
      text({ max: 230 })
        .optional()
        .check(z.regex(/^(a+)+$/) as never),
      '#: /^(a+)+$/ may take too long on 230 characters',
    ],
    ...[
      z.email({ pattern: /^(a+)+$/ }),
      z.stringFormat('x', /^(a+)+$/),
      z.stringFormat('includes', /^(a+)+$/),
      z.string().check(z.lowercase({ pattern: /^(a+)+$/ } as never)),
    ].map((format): [z.ZodType, string] => [
      text({ max: 230 }).pipe(format),
      '#: /^(a+)+$/ may take too long on 230 characters',
    ]),
    [
      text({ max: 230 }).pipe(z.url({ hostname: /^(a+)+$/ })),
      '#: the hostname /^(a+)+$/ may take too long on 2070 characters',
    ],
    [
      text({ max: 230 }).pipe(z.url({ protocol: /^(a+)+$/ })),
      '#: the protocol /^(a+)+$/ may take too long on 230 characters',
    ],
    [
      text({ max: 230 }).pipe(z.templateLiteral([z.string().regex(/(a+)+/), 'b'])),
      '#: the template /^(a+)+b$/ may take too long on 230 characters',
    ],
    [
      text()
        .transform(String)
        .pipe(z.templateLiteral(['a', z.string()])),
      '#: a template runs before the length is checked',
    ],
    [z.promise(text()), '#: promise cannot be sent'],
  ])('case %#: says what is wrong', (schema, problem) => {
    expect(() => assertBounded(schema)).toThrow(TypeError);
    expect(() => assertBounded(schema)).toThrow(problem);
  });

  test.each([undefined, null, {}, 'string', zod3.string().max(5)])(
    'refuses %j, which is no schema',
    (schema) => {
      expect(() => assertBounded(schema as never)).toThrow('expected a schema of zod 4');
    },
  );

  test('the order of checks in zod is the trap: the pattern runs on what is too long', () => {
    let longest = 0;
    const pattern = /^a+$/;
    const exec = pattern.exec.bind(pattern);
    pattern.exec = (value) => {
      longest = Math.max(longest, value.length);
      return exec(value);
    };
    z.string().max(5).regex(pattern).safeParse('a'.repeat(100));
    expect(longest).toBe(100);
  });

  test('names all of them, at most 50', () => {
    const shape = Object.fromEntries(
      Array.from({ length: 60 }, (_, index) => [`f${index}`, z.string()]),
    );
    const { message } = failure(z.object(shape));
    expect(message).toContain('#/f0: ');
    expect(message).toContain('#/f49: ');
    expect(message).toContain('and 10 more');
    expect(message.split('\n')).toHaveLength(52);
  });

  test('looks again at a schema that was first met where less is refused', () => {
    const items = z.array(z.any()).max(5);
    expect(
      failure(z.object({ x: items.pipe(list(text())), y: items }))
        .message.split('\n')
        .slice(1),
    ).toEqual(['  #/y/[]: takes anything']);
    const shared = z.object({ a: z.any() });
    const strict = z.object({ a: text() });
    expect(failure(z.object({ x: shared.pipe(strict), y: shared })).message).toContain(
      '#/y/a: takes anything',
    );
    const lazy = z.lazy(() => z.any());
    expect(failure(z.object({ x: lazy.pipe(text()), y: lazy })).message).toContain(
      '#/y: takes anything',
    );
    const spaces = z.lazy(() => z.string().regex(/\s+$/));
    const measured = (max: number): z.ZodType => text({ max }).pipe(spaces);
    expect(() => assertBounded(z.object({ x: measured(10) }))).not.toThrow();
    expect(failure(z.object({ x: measured(10), y: spaces })).message).toContain(
      '#/y: string without a maximum length',
    );
    expect(failure(z.object({ x: measured(10), y: measured(10_000) })).message).toContain(
      '#/y: /\\s+$/ may take too long on 10000 characters',
    );
  });

  test('ends on schemas that contain themselves, or never end', () => {
    const tree = z.object({
      name: z.string(),
      get children() {
        return z.array(tree).max(5);
      },
    });
    expect(failure(tree).message.match(/#/g)).toHaveLength(1);
    const node: z.ZodType = z.lazy(() => z.object({ next: node.optional(), name: text() }));
    expect(() => assertBounded(node)).not.toThrow();
    const endless = (): z.ZodType => z.lazy(() => z.object({ next: endless() }));
    expect(failure(endless()).message).toContain('schema without end');
    const branching = (): z.ZodType =>
      z.lazy(() => z.object({ left: branching(), right: branching() }));
    expect(failure(branching()).message).toContain('schema without end');
  });
});

function failure(schema: z.ZodType): Error {
  try {
    assertBounded(schema);
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('nothing was wrong');
}
