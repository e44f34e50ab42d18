import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_PATTERN_STEPS, patternSteps } from '../src/pattern.ts';
import { type Expression, parsePattern } from '../src/pattern-syntax.ts';

// Written out: the type check's target does not know the flag yet.
const setNotation = 'v';
/** As it stands, because it means a code point to whoever forgot the flag `u`. */
const repeatedU = String.raw`^(?:\u{1}|u)+$`;

describe('patternSteps', () => {
  test.each([
    /^(a+)+$/,
    /^(a*)*$/,
    /^(a|a)*$/,
    /^(a|ab)*c$/,
    /^([a-z]|\w)+$/,
    /^(\w+\s?)*$/,
    /^(a?b?)*$/,
    /^(.*)*x/,
    /^([a-zA-Z0-9])(([-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$/,
    /^(?:(?:a{1,64}){1,64})$/,
    /^(?:k|\u212a)+$/iu,
    /^(?:\p{L}|é)+$/u,
    /^(?:[^\p{N}]|a)+$/u,
    /^(?:[^é]|k)+$/i,
    new RegExp(repeatedU),
  ])('finds %s exponential', (pattern) => {
    expect(patternSteps(pattern, 230)).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    /^(?=.*\d).{8,64}$/,
    /^(a)\1$/,
    /^(?<x>a)\k<x>$/,
    new RegExp('^[a--b]$', setNotation),
    /a(?<!b)/,
    /(?i:a)/,
    // Octal numbers, and a backslash that stands for itself: readings from before there were rules.
    ...[String.raw`^(?:\012|\n)+$`, String.raw`^(?:[\12]|\n)+$`, String.raw`^(?:\c|\\c)+$`].map(
      (source) => new RegExp(source),
    ),
  ])('cannot tell for %s', (pattern) => {
    expect(patternSteps(pattern, 10)).toBe(Number.POSITIVE_INFINITY);
  });

  test.each([
    [/^[a-z0-9]+(?:-[a-z0-9]+)*$/, 10_000],
    [/^[\w-]{1,64}$/, 10_000],
    [/^\d{4}-\d{2}-\d{2}$/, 10_000],
    [/^(?:\d{1,3}\.){3}\d{1,3}$/, 10_000],
    [/^[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4})+$/, 10_000],
    [/^\+?[1-9]\d{1,14}$/, 10_000],
    [/^[^@\s]+@[^@\s]+\.[^@\s]+$/, 254],
    [/^(?:[a-z0-9-]+\.)+[a-z]{2,}$/i, 253],
    [/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i, 10_000],
    [/^(?:card|iban|sepa)$/, 10_000],
    [/error|warning/, 10_000],
    [/^[\p{L}\p{M}' -]+$/u, 10_000],
    [/^(?:[^"\\]|\\.)*$/, 10_000],
    [/^#?[0-9a-f]{6}$/i, 10_000],
  ])('lets %s run on %i characters', (pattern, maxLength) => {
    expect(patternSteps(pattern, maxLength)).toBeLessThanOrEqual(MAX_PATTERN_STEPS);
  });

  test.each([
    [/\s+$/, 10_000],
    [/^.*,.*,.*$/, 1000],
    [/^\d+\d+\d+$/, 1000],
    [/^[^@\s]+@[^@\s]+\.[^@\s]+$/, 10_000],
    [/^(?:a?){40}a{40}$/, 80],
    [/^(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)(?:||)$/, 10],
  ])('finds %s too slow on %i characters', (pattern, maxLength) => {
    expect(patternSteps(pattern, maxLength)).toBeGreaterThan(MAX_PATTERN_STEPS);
  });

  test('never counts fewer steps than a backtracking engine takes', () => {
    fc.assert(
      fc.property(patterns(), fc.stringMatching(/^[abc]{0,9}$/), (source, text) => {
        const pattern = new RegExp(`^${source}$`);
        const bound = patternSteps(pattern, text.length);
        fc.pre(Number.isFinite(bound));
        const expression = parsePattern(new RegExp(source));
        if (!expression) throw new Error('unread');
        expect(backtrackingSteps(expression, text)).toBeLessThanOrEqual(bound);
      }),
      { numRuns: 5000 },
    );
  });

  test('reads character classes as the engine does, or wider', () => {
    const atoms = [
      '\\d',
      '\\D',
      '\\w',
      '\\W',
      '\\s',
      '\\S',
      '.',
      '[a-f]',
      '[^a-f]',
      '[\\w-]',
      '\\x41',
    ];
    const more = [
      '\\u0041',
      '[\\b]',
      '\\t',
      '\\0',
      '\\cA',
      '[^\\s\\d]',
      '\\/',
      '[é-\\uffff]',
      '[k]',
      '[^]',
    ];
    for (const source of [...atoms, ...more]) {
      for (const flags of ['', 'i', 's', 'u', 'iu']) {
        const pattern = new RegExp(source, flags);
        const expression = parsePattern(pattern);
        const [only] = expression?.kind === 'sequence' ? expression.items : [];
        const set = only?.kind === 'characters' ? only.set : 0n;
        for (let code = 0; code < 0x3000; code += 1) {
          const bit = code < 128 ? BigInt(code) : 128n;
          const isMissed = pattern.test(String.fromCharCode(code)) && ((set >> bit) & 1n) === 0n;
          if (isMissed) throw new Error(`${pattern} matches ${code}, which the set lacks`);
        }
      }
    }
  });
});

/** Patterns over a, b and c, nested a little. */
function patterns(): fc.Arbitrary<string> {
  const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
    pattern: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      fc.constantFrom('a', 'b', 'c', '[ab]', '[^a]', '.', ''),
      fc.tuple(tie('pattern'), tie('pattern')).map(([one, other]) => `${one}${other}`),
      fc.tuple(tie('pattern'), tie('pattern')).map(([one, other]) => `(?:${one}|${other})`),
      fc
        .tuple(tie('pattern'), fc.constantFrom('*', '+', '?', '{2}', '{1,3}', '{0,2}', '*?', '+?'))
        .map(([body, quantifier]) => `(?:${body})${quantifier}`),
    ),
  }));
  return pattern;
}

/** Walks all ways to read a text that then fails at its end, as an engine without memory does; counts the characters it tried. */
function backtrackingSteps(expression: Expression, text: string): number {
  let steps = 0;
  const walk = (node: Expression, at: number, next: (at: number) => void): void => {
    switch (node.kind) {
      case 'empty':
      case 'start':
        next(at);
        return;
      case 'characters': {
        steps += 1;
        const code = text.charCodeAt(at);
        if (at < text.length && ((node.set >> BigInt(code)) & 1n) === 1n) next(at + 1);
        return;
      }
      case 'sequence':
        sequence(node.items, at, next);
        return;
      case 'choice':
        for (const option of node.options) walk(option, at, next);
        return;
      case 'repeat':
        repeat(node.body, node.min, node.max, at, next);
    }
  };
  const sequence = (items: readonly Expression[], at: number, next: (at: number) => void): void => {
    const [item, ...rest] = items;
    if (item) walk(item, at, (after) => sequence(rest, after, next));
    else next(at);
  };
  // ECMA-262 §22.2.2.3.1: an iteration beyond `min` that reads nothing is given up.
  const repeat = (
    body: Expression,
    min: number,
    max: number,
    at: number,
    next: (at: number) => void,
  ): void => {
    if (max > 0) {
      walk(body, at, (after) => {
        if (min > 0 || after > at) repeat(body, Math.max(min - 1, 0), max - 1, after, next);
      });
    }
    if (min === 0) next(at);
  };
  walk(expression, 0, () => {
    steps += 1;
  });
  return steps;
}
