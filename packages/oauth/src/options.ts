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
