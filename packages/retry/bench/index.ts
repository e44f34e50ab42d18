import { measure } from 'mitata';
import { deadline, exponentialBackoff, parseRetryAfter, retryBudget } from '../src/index.ts';

// No peer offers these pieces alone, so there is no ratio: what counts is that a call that needs no retry pays
// nanoseconds for being able to.
const backoff = exponentialBackoff({ baseMs: 100, capMs: 10_000 });
const budget = retryBudget();
const nowMs = Date.now();

const subjects: Readonly<Record<string, () => unknown>> = {
  'exponentialBackoff, full jitter': () => backoff(3),
  'retryBudget, deposit': () => budget.deposit(),
  'retryBudget, tryWithdraw': () => budget.tryWithdraw(),
  'parseRetryAfter, seconds': () => parseRetryAfter('120', nowMs),
  'parseRetryAfter, date': () => parseRetryAfter('Sun, 06 Nov 1994 08:49:37 GMT', nowMs),
  'deadline, signal never read': () => deadline(1000).remaining(),
  'deadline, signal read and disposed': () => {
    using whole = deadline(1000);
    return whole.signal;
  },
};

for (const [name, subject] of Object.entries(subjects)) {
  const { p50 } = await measure(subject, { min_cpu_time: 100e6 });
  console.log(`  ${name.padEnd(40)} ${p50.toFixed(1).padStart(10)} ns`);
}
