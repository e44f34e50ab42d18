import { describe, expect, expectTypeOf, test } from 'vitest';
import { assertKnown, type OptionNames, unknownOption } from '../src/index.ts';

interface Options {
  readonly timeoutMs?: number;
  readonly prefix?: string;
}
const names: OptionNames<Options> = { timeoutMs: true, prefix: true };

describe('assertKnown', () => {
  test.each([{}, { timeoutMs: 5 }, { prefix: undefined, timeoutMs: 5 }])('takes %j', (options) => {
    expect(() => assertKnown(options, names)).not.toThrow();
  });

  test.each(['timeoutMS', 'constructor', 'toString', ''])('refuses the name %j', (name) => {
    const options = { timeoutMs: 5, [name]: 5 };
    expect(() => assertKnown(options, names)).toThrow(
      new TypeError(`${name}: there is no such option`),
    );
  });

  test('refuses a __proto__ of its own, as JSON has it', () => {
    const options = JSON.parse('{"__proto__":{}}') as object;
    expect(() => assertKnown(options, names)).toThrow('__proto__: there is no such option');
  });

  test('says where the options are', () => {
    expect(() => assertKnown({ max: 1 }, names, 'lease.')).toThrow(
      /^lease\.max: there is no such option$/,
    );
  });

  test('leaves alone what a class of options inherits', () => {
    class Inherited {
      close(): void {}
    }
    expect(() => assertKnown(new Inherited(), names)).not.toThrow();
  });
});

test('an option that there is not can be named without an error', () => {
  expect(unknownOption({ prefix: 'a', timeout: 5 }, names)).toBe('timeout');
  expect(unknownOption({ prefix: 'a' }, names)).toBeUndefined();
});

test('the compiler finds a name that is missing, and one that there is not', () => {
  expectTypeOf<OptionNames<Options>>().toEqualTypeOf<{
    readonly timeoutMs: true;
    readonly prefix: true;
  }>();
  expectTypeOf<{ timeoutMs: true }>().not.toExtend<OptionNames<Options>>();
  expectTypeOf<keyof OptionNames<Options>>().not.toEqualTypeOf<keyof Options | 'keyPrefix'>();
});
