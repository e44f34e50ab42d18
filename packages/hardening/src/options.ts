/** Refuses misspelt options: one that is silently ignored protects nobody. */
export function assertKnown(what: string, options: object, names: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw new TypeError(`${what}: unknown option "${name}"`);
  }
}

export function assertFunction(what: string, value: unknown): void {
  if (typeof value !== 'function') throw new TypeError(`${what}: expected a function`);
}
