import { isDeepStrictEqual } from 'node:util';

/** One thing that was tried, and what came of it. */
export interface Expectation {
  readonly step: string;
  readonly what: string;
  readonly expected: unknown;
  readonly actual: unknown;
  readonly held: boolean;
}

/** Where a scenario writes down what it sees. */
export interface Notes {
  step(title: string): void;
  expect(what: string, actual: unknown, expected: unknown): void;
  readonly expectations: readonly Expectation[];
}

/** Who else is told of a step or an outcome as it happens. */
export type Witness = (
  seen: { readonly step: string } | { readonly expectation: Expectation },
) => void;

/** A record that prints each step and each outcome as it happens. */
export function record(print: (line: string) => void, tell: Witness = () => undefined): Notes {
  const expectations: Expectation[] = [];
  let step = '';
  return {
    expectations,
    step(title) {
      step = title;
      print(`\n${title}`);
      tell({ step });
    },
    expect(what, actual, expected) {
      const held = isDeepStrictEqual(actual, expected);
      const expectation = { step, what, expected, actual, held };
      expectations.push(expectation);
      tell({ expectation });
      const outcome = held ? show(actual) : `${show(actual)}, expected ${show(expected)}`;
      print(`  ${held ? '✓' : '✗'} ${what}: ${outcome}`);
    },
  };
}

/** The outcome of all steps as a table. */
export function table(expectations: readonly Expectation[]): string {
  const steps = [...new Set(expectations.map(({ step }) => step))];
  const width = Math.max(...steps.map((step) => step.length));
  const rows = steps.map((step) => {
    const own = expectations.filter((expectation) => expectation.step === step);
    const held = own.filter((expectation) => expectation.held).length;
    return `${held === own.length ? '✓' : '✗'} ${step.padEnd(width)}  ${held} of ${own.length}`;
  });
  return rows.join('\n');
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
