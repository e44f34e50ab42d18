import * as z from 'zod';

/** What `list` takes. */
export interface ListOptions {
  /** Default 0. */
  readonly min?: number;
  /** Default 100. */
  readonly max?: number;
}

/** A list that is counted before its items are looked at. */
export type List<Item extends z.ZodType> = z.ZodPipe<z.ZodArray<z.ZodUnknown>, z.ZodArray<Item>>;

const known: readonly string[] = ['min', 'max'] satisfies readonly (keyof ListOptions)[];

/**
 * At most 100 items, each validated. `z.array(item).max(n)` validates all items of a longer list before it refuses it; this one does not.
 * @throws TypeError for bounds that are none.
 */
export function list<Item extends z.ZodType>(item: Item, options: ListOptions = {}): List<Item> {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`list: unknown option "${name}"`);
  }
  const { min = 0, max = 100 } = options;
  for (const [name, value, least] of [
    ['min', min, 0],
    ['max', max, min],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least) {
      throw new TypeError(`list: ${name} must be an integer of ${least} or more`);
    }
  }
  return z
    .array(z.unknown())
    .max(max, { abort: true })
    .min(min, { abort: true })
    .pipe(z.array(item));
}
