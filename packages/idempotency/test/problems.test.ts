import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { type Problem, problems } from '../src/problems.ts';
import { problemIn } from './request.ts';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
const named: Readonly<Record<Problem, true>> = {
  missing: true,
  malformed: true,
  mismatch: true,
  processing: true,
  unknown: true,
  'not-stored': true,
  streamed: true,
  unreadable: true,
  'store-failed': true,
};

test('the README describes every problem under its type, with its status and when to come again, and no other', () => {
  const described = /^## Problems .*?(?=^## )/ms.exec(readme)?.[0] ?? '';
  const sections = [
    ...described.matchAll(/^### (\S+)\n\n\*\*(\d+)\.?\*\*(?:, `Retry-After: (\d+)`)?/gm),
  ];
  const refuse = problems(undefined);
  const sent = (Object.keys(named) as Problem[]).map((name) => {
    const reply = refuse(name);
    const { type } = problemIn(reply);
    const retryAfter = reply.headers.find(([field]) => field === 'retry-after')?.[1];
    return [String(type).split('#')[1], String(reply.status), retryAfter];
  });
  expect(sections.map(([, ...told]) => told)).toEqual(sent);
});
