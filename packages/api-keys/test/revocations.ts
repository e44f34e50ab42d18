import { fork } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ApiKeys } from '@countersign/api-keys';
import { PEPPER_1 } from './fixtures.ts';
import type { Report, Watch } from './revocation.process.ts';

const program = fileURLToPath(new URL('./revocation.process.ts', import.meta.url));

/** How revocations came to other processes. */
export interface Spread {
  /** Milliseconds from the call of `revoke` until a process refused the key, for each key and process, in order. */
  readonly latenciesMs: readonly number[];
  /** Keys that a process took for valid once more. */
  readonly resurrected: readonly number[];
}

/** Revokes keys one after the other while four processes verify all of them without pause; resolves when all refuse all. */
export async function spreadRevocations(
  url: string,
  keys: ApiKeys,
  revocations: number,
): Promise<Spread> {
  const created = await Promise.all(
    Array.from({ length: revocations }, () => keys.create({ owner: 'watched', scopes: [] })),
  );
  const children = Array.from({ length: 4 }, () => fork(program));
  const seen = children.map(() => new Map<number, bigint>());
  const resurrected: number[] = [];
  const ready = children.map(
    (child, at) =>
      new Promise<void>((resolve) => {
        child.on('message', (report: Report) => {
          if (report.kind === 'watching') resolve();
          else if (report.kind === 'refused') seen[at]?.set(report.index, BigInt(report.atNs));
          else resurrected.push(report.index);
        });
      }),
  );
  try {
    const watch: Watch = { url, peppers: [PEPPER_1], keys: created.map(({ key }) => key) };
    for (const child of children) child.send(watch);
    await Promise.all(ready);
    const began: bigint[] = [];
    for (const [index, { record }] of created.entries()) {
      began.push(process.hrtime.bigint());
      await keys.revoke(record.id, { reason: 'measured' });
      // One after the other: what is measured is the way of a message, not a queue of our own making.
      while (!seen.every((times) => times.has(index))) await pause(2);
    }
    const latenciesMs = seen
      .flatMap((times) => began.map((at, index) => Number((times.get(index) as bigint) - at) / 1e6))
      .toSorted((a, b) => a - b);
    return { latenciesMs, resurrected };
  } finally {
    for (const child of children) child.kill('SIGKILL');
  }
}
