/** @throws TypeError unless the option is a whole number from `least` to `most`. */
export function assertWhole(option: string, value: number, least: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return;
  const [from, to] = [least, most].map((bound) => bound.toLocaleString('en'));
  throw new TypeError(`${option} must be a whole number from ${from} to ${to}`);
}
