import * as z from 'zod';
import { assertKnown } from './options.ts';
import { MAX_PATTERN_STEPS, patternSteps } from './pattern.ts';

/** What `text` takes. Lengths are in UTF-16 units, as `String.length` counts them. */
export interface TextOptions {
  /** Default 0. */
  readonly min?: number;
  /** Default 10,000. */
  readonly max?: number;
  /** Of the text as it was sent, in UTF-8, with the white space around it. Default four times `max`. */
  readonly maxBytes?: number;
  /** Must match. Runs on texts that have passed the bounds, never on a longer one. */
  readonly pattern?: RegExp;
  /** Whether white space around the text is dropped before characters are counted. Default true. */
  readonly trim?: boolean;
}

const known: readonly string[] = [
  'min',
  'max',
  'maxBytes',
  'pattern',
  'trim',
] satisfies readonly (keyof TextOptions)[];

/**
 * A bounded text: at most 40,000 bytes, trimmed, at most 10,000 characters, without NUL and lone surrogates, which databases and encoders refuse or change.
 * Each check ends the checking when it fails, the length first: a pattern added here or later with `.regex()` never sees an overlong text.
 * @throws TypeError for bounds that are none, and for a pattern that could take longer than 5 ms on `max` characters.
 */
export function text(options: TextOptions = {}): z.ZodString {
  assertKnown('text', options, known);
  const { min = 0, max = 10_000, pattern, trim = true } = options;
  const maxBytes = options.maxBytes ?? 4 * max;
  for (const [name, value, least] of [
    ['min', min, 0],
    ['max', max, min],
    ['maxBytes', maxBytes, 1],
  ] as const) {
    if (!Number.isSafeInteger(value) || value < least) {
      throw new TypeError(`text: ${name} must be an integer of ${least} or more`);
    }
  }
  // Bytes before anything else: white space that is dropped has been sent all the same.
  const measured = z.string().refine((value) => fits(value, maxBytes), {
    abort: true,
    params: { code: 'too_many_bytes' },
  });
  const bounded = (trim ? measured.trim() : measured)
    .max(max, { abort: true })
    .min(min, { abort: true })
    .refine((value) => !value.includes('\0') && value.isWellFormed(), {
      abort: true,
      params: { code: 'invalid_characters' },
    });
  return pattern === undefined ? bounded : bounded.regex(checkedPattern(pattern, max));
}

/**
 * `text` for a search term in a URL: at most 500 characters.
 * @throws TypeError as `text` does.
 */
export function queryText(options: TextOptions = {}): z.ZodString {
  return text({ max: 500, ...options });
}

/** A text has no fewer bytes than UTF-16 units, and at most three for each: few have to be counted. */
function fits(value: string, maxBytes: number): boolean {
  if (value.length > maxBytes) return false;
  return value.length * 3 <= maxBytes || Buffer.byteLength(value) <= maxBytes;
}

function checkedPattern(pattern: RegExp, max: number): RegExp {
  if (!(pattern instanceof RegExp)) throw new TypeError('text: pattern must be a RegExp');
  if (pattern.global || pattern.sticky) {
    throw new TypeError(
      'text: pattern must not have the flags g or y: they remember where they were',
    );
  }
  const steps = patternSteps(pattern, max);
  if (steps > MAX_PATTERN_STEPS) {
    throw new TypeError(
      Number.isFinite(steps)
        ? `text: pattern ${pattern} may take ${steps} steps on ${max} characters: anchor it with ^, lower max, or let fewer repetitions overlap`
        : `text: pattern ${pattern} may take exponential time, or uses lookaround or backreferences, whose time cannot be told`,
    );
  }
  return pattern;
}
