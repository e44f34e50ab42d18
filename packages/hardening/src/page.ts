import * as z from 'zod';
import { type NumFromText, num } from './num.ts';
import { assertKnown } from './options.ts';
import { text } from './text.ts';

/** What `page` takes. */
export interface PageOptions {
  /** How many items a page has when nobody says. Default 20. */
  readonly size?: number;
  /** How many it may have. Default 100. */
  readonly maxSize?: number;
}

/** `page` by position. */
export interface OffsetPageOptions extends PageOptions {
  readonly by: 'offset';
  /** How many items may be skipped. Default 10,000: a database reads all it skips. */
  readonly maxOffset?: number;
}

/** `page` by an opaque cursor. */
export interface CursorPageOptions extends PageOptions {
  readonly by?: 'cursor';
}

/** `?size=20&cursor=…` */
export type CursorPage = z.ZodObject<
  { size: z.ZodDefault<NumFromText>; cursor: z.ZodOptional<z.ZodString> },
  z.core.$strict
>;

/** `?size=20&offset=40` */
export type OffsetPage = z.ZodObject<
  { size: z.ZodDefault<NumFromText>; offset: z.ZodDefault<NumFromText> },
  z.core.$strict
>;

const known: readonly string[] = ['by', 'size', 'maxSize', 'maxOffset'] satisfies readonly (
  | keyof OffsetPageOptions
  | keyof CursorPageOptions
)[];

/**
 * The query parameters of a page of results: `size` (20 unless said, at most 100), and `cursor` (at most 200 characters of base64url) or `offset`.
 * For more parameters, `page().extend({ … })`.
 * @throws TypeError for bounds that are none.
 */
export function page(options: OffsetPageOptions): OffsetPage;
export function page(options?: CursorPageOptions): CursorPage;
export function page(options: OffsetPageOptions | CursorPageOptions = {}): OffsetPage | CursorPage {
  assertKnown('page', options, known);
  const { size = 20, maxSize = 100 } = options;
  if (!Number.isSafeInteger(size) || size < 1 || !Number.isSafeInteger(maxSize) || size > maxSize) {
    throw new TypeError('page: size must be an integer from 1 to maxSize');
  }
  const sizes = num({ from: 'text', integer: true, min: 1, max: maxSize }).default(size);
  if (options.by === 'offset') {
    const { maxOffset = 10_000 } = options;
    const offset = num({ from: 'text', integer: true, min: 0, max: maxOffset }).default(0);
    return z.strictObject({ size: sizes, offset });
  }
  if ('maxOffset' in options) throw new TypeError('page: maxOffset needs by: "offset"');
  if (options.by !== undefined && options.by !== 'cursor') {
    throw new TypeError('page: by must be "cursor" or "offset"');
  }
  const cursor = text({ min: 1, max: 200, trim: false, pattern: /^[\w-]+={0,2}$/ }).optional();
  return z.strictObject({ size: sizes, cursor });
}
