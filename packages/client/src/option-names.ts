/** The name of every option: the compiler finds one that is missing. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Without types a misspelt option would be ignored: a call whose key got lost on the way would be another payment.
 * @param prefix - where the options are, such as `breaker.`.
 * @throws TypeError naming it.
 */
export function assertKnown<Options extends object>(
  options: Options,
  names: OptionNames<Options>,
  prefix = '',
): void {
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(names, name)) {
      throw new TypeError(`${prefix}${name}: there is no such option`);
    }
  }
}
