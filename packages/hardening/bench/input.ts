import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import * as z from 'zod';
import { HardeningError, input, list, num, text } from '../src/index.ts';

const worstMs = 5;
const worstCharacters = 2000;

const order = z.object({
  name: text({ max: 50 }),
  amount: num({ min: 0, max: 1000 }),
  lines: list(z.object({ sku: text({ max: 20 }), count: num({ min: 1, max: 9, integer: true }) })),
});

/** How long refusing the worst input takes, and what the bounds cost where nothing is wrong. */
export async function benchInput(): Promise<void> {
  await benchRefusals();
  await benchAcceptance();
}

async function benchRefusals(): Promise<void> {
  const usual = input(order);
  // With room for the bytes, so that the other bounds have to hold.
  const roomy = input(order, { maxBytes: 10_000_000 });
  const evil = input(text({ max: 200 }).refine((value) => /^(a+)+$/.test(value)));
  const address = input(text({ max: 254, pattern: /^[^@\s]+@[^@\s]+\.[^@\s]+$/ }));
  const manyKeys = members(100_000);
  const bodies: Readonly<Record<string, readonly [typeof usual | typeof evil, Buffer]>> = {
    '100,000 unknown keys': [usual, manyKeys],
    '100,000 unknown keys, maxBytes raised': [roomy, manyKeys],
    '900 unknown keys, within all bounds': [usual, members(900)],
    '20,000 arrays deep': [usual, Buffer.from('['.repeat(20_000) + ']'.repeat(20_000))],
    '20,000 objects deep, maxBytes raised': [
      roomy,
      Buffer.from(`${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`),
    ],
    '^(a+)+$ on 230 characters, 200 allowed': [evil, Buffer.from(`"${'a'.repeat(229)}!"`)],
    'a slow pattern that is let be, on its worst text': [
      address,
      Buffer.from(`"a@${'a.'.repeat(125)}@"`),
    ],
    '1e400': [usual, Buffer.from('{"name":"a","amount":1e400,"lines":[]}')],
    '100 KB of escapes': [usual, Buffer.from(`"${'\\\\\\"'.repeat(25_000)}`)],
    '50,000 items, 100 allowed': [
      usual,
      Buffer.from(`{"name":"a","amount":1,"lines":[0${',0'.repeat(49_999)}]}`),
    ],
  };
  const refusals: Record<string, () => number> = {
    '^(a+)+$ on 230 characters, in a schema': () =>
      charactersOf(() => text({ max: 230, pattern: /^(a+)+$/ })),
  };
  for (const [name, [schema, body]] of Object.entries(bodies)) {
    refusals[name] = () => charactersOf(() => schema.parse(body));
  }
  const results = await compare(refusals, 3);
  report('refusing the worst', results);
  for (const { name, nsPerCall } of results) {
    expectAtLeast(`${name}, of ${worstMs} ms`, (worstMs * 1e6) / nsPerCall, 1);
    const characters = refusals[name]?.() ?? 0;
    if (characters > worstCharacters) throw new Error(`${name}: ${characters} characters of error`);
  }
}

async function benchAcceptance(): Promise<void> {
  const read = input(order);
  const plain = z.strictObject({
    name: z.string().max(50),
    amount: z.number().min(0).max(1000),
    lines: z
      .array(z.strictObject({ sku: z.string().max(20), count: z.int().min(1).max(9) }))
      .max(100),
  });
  const lines = Array.from({ length: 10 }, (_, index) => ({ sku: `sku-${index}`, count: 1 }));
  const body = Buffer.from(JSON.stringify({ name: 'Ada', amount: 12.5, lines }));
  const results = await compare({
    'input(schema).parse': () => read.parse(body),
    'JSON.parse and zod, no bounds': () => plain.parse(JSON.parse(body.toString())),
  });
  report('an order of ten lines', results);
  expectAtLeast(
    'against JSON.parse and zod without bounds on bytes, depth, names and characters',
    ratio(results, 'input(schema).parse', 'JSON.parse and zod, no bounds'),
    0.3,
  );
}

/** A JSON object of so many members. */
function members(count: number): Buffer {
  const names = Array.from({ length: count }, (_, index) => [`key${index}`, 1]);
  return Buffer.from(JSON.stringify(Object.fromEntries(names)));
}

/** How much a refusal says. */
function charactersOf(run: () => unknown): number {
  try {
    run();
  } catch (error) {
    if (error instanceof HardeningError)
      return JSON.stringify([error.message, error.errors]).length;
    if (error instanceof TypeError) return error.message.length;
    throw error;
  }
  throw new Error('nothing was refused');
}
