/** The most that a timer takes, about 24.8 days; as good as none for anything that is counted. */
const MAX = 2_147_483_647;

/** @throws TypeError when an option that bounds something would bound nothing. */
export function bound<K extends string>(
  options: { readonly [P in K]?: number },
  name: K,
  fallback: number,
  least = 1,
): number {
  const value = options[name] ?? fallback;
  if (!(Number.isInteger(value) && value >= least && value <= MAX)) {
    throw new TypeError(`${name} must be a whole number from ${least} to ${MAX}`);
  }
  return value;
}
