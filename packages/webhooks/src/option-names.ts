/** The name of every option: the compiler finds one that is missing. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Without types a misspelt option would be ignored: payloads would be stored readable for want of an `encryptionKeys`.
 * @param prefix - where the options are, such as `breaker.`.
 * @throws TypeError naming it.
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
