import { expect, test } from 'vitest';
import { record, table } from '../src/expectations.ts';

test('an expectation that did not hold is printed with what was expected, and counted', () => {
  const lines: string[] = [];
  const notes = record((line) => lines.push(line));
  notes.step('1. something happens');
  notes.expect('the status', 200, 201);
  notes.expect('the attempts', [1, 2], [1, 2]);
  expect(notes.expectations.map(({ held }) => held)).toEqual([false, true]);
  expect(lines).toEqual([
    '\n1. something happens',
    '  ✗ the status: 200, expected 201',
    '  ✓ the attempts: [1,2]',
  ]);
  expect(table(notes.expectations)).toBe('✗ 1. something happens  1 of 2');
});
