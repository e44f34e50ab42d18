/** The name of every option: the compiler finds one that is missing, and one that there is not. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/** The first name that is none of an option. */
export function unknownOption(
  options: object,
  names: Readonly<Record<string, true>>,
): string | undefined {
  return Object.keys(options).find((name) => !Object.hasOwn(names, name));
}

/**
 * Refuses a misspelt option: a program without types would have it ignored, and with it what it was to protect.
 * @param prefix - where the options are, such as `lease.`; default none.
 * @throws TypeError naming the first that there is not.
 */
export function assertKnown(
  options: object,
  names: Readonly<Record<string, true>>,
  prefix = '',
): void {
  const name = unknownOption(options, names);
  if (name !== undefined) throw new TypeError(`${prefix}${name}: there is no such option`);
}
