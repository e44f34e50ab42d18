import * as z from 'zod';
import { assertKnown } from './options.ts';
import { text } from './text.ts';

/** What `num` takes. */
export interface NumOptions {
  /** Mandatory. Inclusive. */
  readonly min: number;
  /** Mandatory. Inclusive. */
  readonly max: number;
  /** Only integers that a double holds exactly. Default false. */
  readonly integer?: boolean;
}

/** `num` for places where everything is text, as in a URL. */
export interface NumFromTextOptions extends NumOptions {
  /** Reads canonical decimal notation (`-12.5`): no sign but minus, no leading zeros, exponents, spaces or other bases. */
  readonly from: 'text';
}

/** Texts that are numbers. */
export type NumFromText = z.ZodPipe<
  z.ZodPipe<z.ZodString, z.ZodTransform<number, string>>,
  z.ZodNumber
>;

const known: readonly string[] = [
  'min',
  'max',
  'integer',
  'from',
] satisfies readonly (keyof NumFromTextOptions)[];

/**
 * A finite number between two bounds; -0 is 0. Nothing is turned into a number unless `from: 'text'` says so: `''`, `null` and `false` are refused, not 0.
 * @throws TypeError for bounds that are missing or no bounds.
 */
export function num(options: NumFromTextOptions): NumFromText;
export function num(options: NumOptions): z.ZodNumber;
export function num(options: NumOptions | NumFromTextOptions): NumFromText | z.ZodNumber {
  assertKnown('num', options, known);
  const { min, max, integer = false } = options;
  const isBound = integer ? Number.isSafeInteger : Number.isFinite;
  if (!isBound(min) || !isBound(max) || min > max) {
    throw new TypeError(
      `num: min and max must be ${integer ? 'integers' : 'numbers'}, min not above max`,
    );
  }
  const number = (integer ? z.int({ abort: true }) : z.number())
    .min(min, { abort: true })
    .max(max, { abort: true })
    .overwrite((value) => value + 0); // -0 is 0
  if (!('from' in options)) return number;
  if (options.from !== 'text') throw new TypeError('num: from must be "text"');
  return text({ max: 32, trim: false, pattern: /^-?(?:0|[1-9]\d*)(?:\.\d+)?$/ })
    .transform(Number)
    .pipe(number);
}
