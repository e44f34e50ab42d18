/** The name of every option: the compiler finds one that is missing, and one that there is not. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

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
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(names, name)) {
      throw new TypeError(`${prefix}${name}: there is no such option`);
    }
  }
}
