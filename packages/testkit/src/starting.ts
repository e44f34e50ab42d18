import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Asks again every few milliseconds; gives up, naming what it waited for, after 20 seconds. */
export async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const [held, cause] = await condition().then(
      (value) => [value, undefined] as const,
      (error: unknown) => [false, error] as const,
    );
    if (held) return;
    if (performance.now() > giveUpAt) throw new Error(`waited in vain until ${what}`, { cause });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Starts something in a temporary directory, which goes again when that fails. */
export async function inDirectory<T>(name: string, start: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), `countersign-${name}-`));
  try {
    return await start(dir);
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}

/** All of them, or, when one failed to start, none: the others are stopped. */
export async function allOrNone<T extends readonly Promise<{ stop(): Promise<void> }>[]>(
  starting: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const outcomes = await Promise.allSettled(starting);
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure) {
    const started = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    await Promise.all(started.map(({ value }) => value.stop()));
    throw failure.reason;
  }
  return outcomes.map((outcome) => (outcome as { value: unknown }).value) as never;
}
