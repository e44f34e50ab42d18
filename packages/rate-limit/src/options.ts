export function assertName(option: string, name: string): void {
  if (typeof name !== 'string' || !/^[A-Za-z0-9._-]{1,64}$/.test(name))
    throw new TypeError(`${option}: expected 1 to 64 of A-Z a-z 0-9 . _ -`);
}

export function assertFunction(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function')
    throw new TypeError(`${option}: expected a function`);
}

export function assertInteger(option: string, value: number, largest: number, least = 1): void {
  if (!Number.isInteger(value) || value < least || value > largest)
    throw new TypeError(`${option}: expected an integer from ${least} to ${largest}`);
}
