/** @throws TypeError naming the option. */
export function assertFunction(option: string, value: unknown): void {
  if (typeof value !== 'function') throw new TypeError(`${option} must be a function`);
}

/** @throws TypeError naming the option, for a number that is not a whole number in its range. */
export function assertCount(option: string, value: number, least = 0): number {
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new TypeError(`${option} must be a whole number, ${least} or more`);
}
