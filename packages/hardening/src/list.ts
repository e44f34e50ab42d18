import * as z from 'zod';
import { assertKnown } from './options.ts';

/** What `list` takes. */
export interface ListOptions {
  /** Default 0. */
  readonly min?: number;
  /** Default 100. */
  readonly max?: number;
}

const known: readonly string[] = ['min', 'max'] satisfies readonly (keyof ListOptions)[];

/**
 * At most 100 items, each validated, once they have been counted.
 * @throws TypeError for bounds that are none.
 */
export function list<Item extends z.ZodType>(
  item: Item,
  options: ListOptions = {},
): z.ZodArray<Item> {
  assertKnown('list', options, known);
  const { min = 0, max = 100 } = options;
  for (const [name, value, least] of [
    ['min', min, 0],
    ['max', max, min],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least) {
      throw new TypeError(`list: ${name} must be an integer of ${least} or more`);
    }
  }
  return z.array(item).max(max, { abort: true }).min(min, { abort: true });
}
