/** The name of every option: the compiler finds one that is missing. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Without types a misspelt option would be ignored.
 * @throws TypeError naming it.
 */
export function assertKnown<Options extends object>(
  options: Options,
  names: OptionNames<Options>,
): void {
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(names, name)) throw new TypeError(`${name}: there is no such option`);
  }
}
