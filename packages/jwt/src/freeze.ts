/** Freezes parsed JSON all the way down: what the cache hands out again must not be changed by whoever had it first. */
export function deepFreeze<T extends object>(value: T): T {
  for (const name in value) {
    const member = value[name];
    if (typeof member === 'object' && member !== null && !Object.isFrozen(member))
      deepFreeze(member);
  }
  return Object.freeze(value);
}
