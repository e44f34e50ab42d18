import type { Outcome } from '@countersign/guard';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import type { IdempotencyStore } from '../src/store.ts';
import { type passed, refused, requestOf } from './request.ts';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

/** Whether the store does not do what it is asked, or does it and cannot say so. */
type Fault = 'none' | 'not done' | 'not said';
type End = 'answered' | 'not executed' | 'refused by a later guard' | 'left';

const fault = fc.constantFrom<Fault>('none', 'none', 'not done', 'not said');
const step = fc.oneof(
  fc.record({ do: fc.constant('send' as const), isGone: fc.boolean(), fault }),
  fc.record({
    do: fc.constant('end' as const),
    how: fc.constantFrom<End>('answered', 'not executed', 'refused by a later guard', 'left'),
    fault,
  }),
  fc.record({
    do: fc.constant('wait' as const),
    ms: fc.constantFrom(1000, 11_000, 31_000, 61_000),
    fault,
  }),
);

test('whatever the store does and however executions end, none is followed by a second one', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 20 }), async (steps) => {
      vi.clearAllTimers(); // nobody runs any more who ran before
      let ailing: Fault = 'none';
      const store = faulty(memoryIdempotencyStore(), () => ailing);
      const guard = idempotencyGuard({ store, principal: () => 'alice' });
      let executions = 0;
      let running: ReturnType<typeof passed> | undefined;
      for (const taken of steps) {
        ailing = taken.fault;
        if (taken.do === 'wait') {
          await vi.advanceTimersByTimeAsync(taken.ms);
        } else if (taken.do === 'send') {
          const signal = taken.isGone ? AbortSignal.abort() : new AbortController().signal;
          const verdict = await guard(requestOf({ key: 'k', signal }), {});
          if (verdict.pass) {
            expect(taken.isGone).toBe(false);
            executions += 1;
            running = verdict;
          } else if (refused(verdict).status < 400) {
            expect(String(verdict.body)).toBe('execution 1');
          }
          expect(executions).toBeLessThanOrEqual(1);
        } else if (running) {
          const { context, settle } = running;
          running = undefined;
          if (taken.how === 'not executed') context.notExecuted();
          await Promise.resolve(settle?.(outcomeOf(taken.how))).catch(() => {});
          if (taken.how === 'not executed' || taken.how === 'refused by a later guard') {
            executions -= 1;
          }
        }
        // Everybody has said what there was to say; nothing that is late may undo it.
        ailing = 'none';
      }
    }),
    { numRuns: 500 },
  );
});

function faulty(store: IdempotencyStore, fault: () => Fault): IdempotencyStore {
  const wrap =
    <Args extends unknown[], Result>(operation: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      const now = fault();
      if (now === 'not done') throw new Error('not done');
      const result = await operation(...args);
      if (now === 'not said') throw new Error('done, and the answer was lost');
      return result;
    };
  const { begin, renew, complete, release, abandon } = store;
  return {
    begin: wrap(begin),
    renew: wrap(renew),
    complete: wrap(complete),
    release: wrap(release),
    abandon: wrap(abandon),
  };
}

function outcomeOf(end: End): Outcome {
  const answer = { status: 201, headers: [], body: Buffer.from('execution 1'), aborted: false };
  if (end === 'left') return { status: 0, headers: [], aborted: true };
  return end === 'refused by a later guard' ? { ...answer, refused: true } : answer;
}
