/** The name of every option: the compiler finds one that is missing. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Without types a misspelt option would be ignored, and what it was to protect would not be: `ipAllowList` would make a key
 * that works from everywhere.
 * @returns the first name that is none of an option.
 */
export function unknownOption<Options extends object>(
  options: Options,
  names: OptionNames<Options>,
): string | undefined {
  return Object.keys(options).find((name) => !Object.hasOwn(names, name));
}

/** @throws TypeError naming what is no option. */
export function assertKnown<Options extends object>(
  options: Options,
  names: OptionNames<Options>,
): void {
  const name = unknownOption(options, names);
  if (name !== undefined) throw new TypeError(`${name}: there is no such option`);
}

/** @throws TypeError naming the option. */
export function assertFunction(option: string, value: unknown): void {
  if (typeof value !== 'function') throw new TypeError(`${option} must be a function`);
}

/** @throws TypeError naming the option, for a number that is not a whole number in its range. */
export function assertCount(option: string, value: number, least = 0): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new TypeError(`${option} must be a whole number, ${least} or more`);
}
