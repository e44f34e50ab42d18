/** @throws TypeError naming the option. */
export function assertFunction(option: string, value: unknown): void {
  if (typeof value !== 'function') throw new TypeError(`${option}: expected a function`);
}
