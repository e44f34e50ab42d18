import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { input, list, num, text } from '../src/index.ts';
import { refusal } from './refusal.ts';

const url = text().transform((value) => new URL(value));

test.each<[string, z.ZodType, unknown, string]>([
  ['a transformation', z.object({ url }), { url: 'no' }, '#/url'],
  ['one in a list', z.object({ urls: list(url) }), { urls: ['http://a', 'no'] }, '#/urls/1'],
  [
    'a refinement of the whole',
    z.object({ a: z.object({ b: num({ min: 0, max: 1 }) }) }).refine(() => JSON.parse('{')),
    { a: { b: 1 } },
    '#',
  ],
  [
    'an intersection whose sides differ',
    z.object({ a: z.intersection(text(), text().transform(Number)) }),
    { a: '5' },
    '#/a',
  ],
  [
    'what makes the message of a check',
    z.object({ a: text().refine(() => false, { error: () => JSON.parse('{') }) }),
    { a: 'a' },
    '#',
  ],
])('where %s throws, the place is named', (_, schema, value, pointer) => {
  expect(refusal(() => input(schema).check(value)).errors).toEqual([
    { pointer, code: 'check_failed', detail: 'could not be checked' },
  ]);
});

test('another form may fit where a check of one throws', () => {
  const either = input(z.object({ a: z.union([url, text()]) }));
  expect(either.check({ a: 'no' })).toEqual({ a: 'no' });
});

test('what a check throws is passed on where it is waited for', async () => {
  const waiting = input(z.object({ a: text().transform(async (value) => new URL(value)), url }));
  await expect(waiting.checkAsync({ a: 'no', url: 'http://a' })).rejects.toThrow(TypeError);
  await expect(waiting.checkAsync({ a: 'http://a', url: 'no' })).rejects.toThrow(TypeError);
});

test('nothing is kept of what was refused', () => {
  const script = `
    import * as z from 'zod';
    import { input, list, text } from '${new URL('../src/index.ts', import.meta.url).href}';
    const url = text().transform((value) => new URL(value));
    const plain = z.object({ note: text(), url });
    const tree = z.object({ note: text(), url, get children() { return list(tree).optional(); } });
    const body = JSON.stringify({ note: 'x'.repeat(5000), url: 'no' });
    const refuse = (read) => {
      let refusal;
      try { read.parse(body); } catch (error) { refusal = error; }
      if (refusal?.errors?.[0]?.code !== 'check_failed') throw new Error('it was not refused', { cause: refusal });
    };
    for (const schema of [plain, tree]) {
      const read = input(schema);
      const used = (times) => {
        for (let time = 0; time < times; time += 1) refuse(read);
        gc();
        return process.memoryUsage().heapUsed;
      };
      const before = used(500);
      console.log((used(2000) - before) / 2000);
    }`;
  const printed = execFileSync(
    process.execPath,
    ['--expose-gc', '--input-type=module', '--eval', script],
    { cwd: new URL('..', import.meta.url), encoding: 'utf8' },
  );
  for (const bytesEach of printed.trim().split('\n')) expect(Number(bytesEach)).toBeLessThan(1000);
});
