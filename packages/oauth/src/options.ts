/** The name of every option: the compiler finds one that is missing. */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Without types a misspelt option would be ignored, and what it was to protect would not be.
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

/** @throws TypeError when an option is there and is no text. */
export function assertText<K extends string>(
  options: { readonly [P in K]?: unknown },
  name: K,
): void {
  const value: unknown = options[name];
  if (value !== undefined && (typeof value !== 'string' || value === '')) {
    throw new TypeError(`${name} must be a non-empty string`);
  }
}

/** @throws TypeError for what is no clock. */
export function assertClock(now: unknown): void {
  if (typeof now !== 'function') {
    throw new TypeError('now must be a function that returns milliseconds');
  }
}
