import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import * as z from 'zod';
import { output } from '../src/index.ts';

/** At most this many times `JSON.stringify` of what is left when everything else is taken out. */
const atMost = 1.5;

const Payment = z.object({
  id: z.string(),
  amount: z.int(),
  currency: z.enum(['EUR', 'USD']),
  status: z.enum(['open', 'paid']),
  createdAt: z.string(),
  description: z.string().max(200).optional(),
});
/** Two patterns to run: 100 ns that serialising has nothing to do with. */
const Formatted = Payment.extend({ id: z.uuid(), createdAt: z.iso.datetime() });
const Order = z.object({
  id: z.string(),
  customer: z.object({ id: z.string(), name: z.string(), email: z.email() }),
  items: z.array(
    z.object({
      sku: z.string(),
      name: z.string(),
      quantity: z.int().min(1),
      price: z.number().min(0),
      taxed: z.boolean(),
    }),
  ),
});

const payment = {
  id: '3f2b8c1e-7a4d-4c5e-9b1a-2d3e4f5a6b7c',
  owner: 'alice',
  amount: 4200,
  currency: 'EUR',
  status: 'paid',
  card: { pan: '4111111111111111', expires: '12/29' },
  createdAt: '2026-11-23T12:00:00.000Z',
  description: 'Order 4711, two items, thank you',
} as const;
const order = {
  id: 'o_1',
  internalNote: 'calls every day',
  customer: {
    id: 'c_1',
    name: 'Ada Lovelace',
    email: 'ada@example.com',
    passwordHash: '$argon2id$',
  },
  items: Array.from({ length: 20 }, (_, at) => ({
    sku: `SKU-${at}`,
    cost: 1.5,
    name: `A very useful thing no. ${at}`,
    quantity: at + 1,
    price: 9.99 + at,
    taxed: at % 2 === 0,
  })),
};

/** What exact output costs on top of serialising. */
export async function benchOutput(): Promise<void> {
  await benchOne('one payment', Payment, payment);
  await benchOne('an order with 20 items', Order, order);
  await benchOne('100 payments', z.array(Payment), Array(100).fill(payment));
  await benchOne('one payment, its formats checked', Formatted, payment, false);
}

async function benchOne<Schema extends z.ZodType>(
  name: string,
  schema: Schema,
  value: z.input<Schema>,
  isBound = true,
): Promise<void> {
  const exact = output(schema);
  const filtered = JSON.parse(exact.stringify(value) as string);
  const results = await compare({
    'JSON.stringify of the filtered value': () => JSON.stringify(filtered),
    output: () => exact.stringify(value),
    'zod, parse and JSON.stringify': () => JSON.stringify(schema.parse(value)),
  });
  report(`exact output: ${name}`, results);
  const times = 1 / ratio(results, 'output', 'JSON.stringify of the filtered value');
  if (isBound)
    expectAtLeast(`${atMost}× of JSON.stringify over ${times.toFixed(2)}×`, atMost / times, 1);
}
