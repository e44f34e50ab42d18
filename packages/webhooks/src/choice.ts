/** @throws TypeError unless the option is one of the words that it may be: none may be taken for another. */
export function assertOneOf(option: string, value: string, words: readonly string[]): void {
  if (words.includes(value)) return;
  throw new TypeError(`${option} must be ${words.map((word) => `'${word}'`).join(' or ')}`);
}
