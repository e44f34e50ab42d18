import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { assertKnown, type OptionNames } from '@countersign/options';
import { ClientError } from './errors.ts';
import { takeLock } from './lock.ts';
import type { JournalEntry, JournalStore } from './store.ts';

export type { JournalEntry, JournalStore } from './store.ts';

interface Write {
  readonly line: Line;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

type Line = { readonly begin: JournalEntry } | { readonly settle: Name };

/** What tells entries apart: a caller's own key may be in use at several origins. */
type Name = Pick<JournalEntry, 'origin' | 'key'>;

/** The file is written anew when this many of its lines are about calls that are over. */
const COMPACT_AFTER_LINES = 1000;

/** Options of {@link fileJournal}. */
export interface FileJournalOptions {
  /** The wall clock in milliseconds, the same as the client's. Default `Date.now`. */
  readonly now?: () => number;
}

const known: OptionNames<FileJournalOptions> = { now: true };

/**
 * A journal in a file, for one process at a time: JSON lines, readable by the owner only, on the disk (`fdatasync`)
 * before a call is sent. It holds request bodies as they are: put it where they may be.
 * @throws TypeError when an argument is not what it must be. ClientError `ERR_CLIENT_JOURNAL`, from every use, when the file is in use, damaged or cannot be written.
 */
export function fileJournal(path: string, options: FileJournalOptions = {}): JournalStore {
  assertKnown(options, known);
  const { now = Date.now } = options;
  if (typeof path !== 'string' || path === '') throw new TypeError('path must name a file');
  if (typeof now !== 'function') throw new TypeError('now must be a function');
  const lockPath = `${path}.lock`;
  const entries = new Map<string, JournalEntry>();
  /** What this process is at work on itself, and until when. */
  const leases = new Map<string, number>();
  let opening: Promise<void> | undefined;
  let file: FileHandle | undefined;
  let fileBytes = 0;
  /** Before the next line: the file is long, or may end in a line that was written in part. */
  let rewriteDue = true;
  let finished = 0;
  let queue: Write[] = [];
  let writing: Promise<void> | undefined;
  let closed = false;

  function opened(): Promise<void> {
    if (closed) return Promise.reject(problem('it has been closed'));
    opening ??= load().catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    return opening;
  }

  async function load(): Promise<void> {
    await takeLock(lockPath).catch((error: unknown) => {
      throw problem((error as Error).message, error);
    });
    try {
      entries.clear();
      for (const line of parseLines(await readFile(path, 'utf8').catch(ignoreMissing))) {
        if ('begin' in line) entries.set(nameOf(line.begin), line.begin);
        else entries.delete(nameOf(line.settle));
      }
    } catch (error) {
      await rm(lockPath, { force: true });
      throw error;
    }
  }

  /** Writes what is still open into a new file and puts it in place of the old one, at once or not at all. */
  async function rewrite(): Promise<FileHandle> {
    const text = [...entries.values()].map((begin) => `${JSON.stringify({ begin })}\n`).join('');
    await file?.close();
    file = undefined;
    await writeDurably(`${path}.next`, text);
    await rename(`${path}.next`, path);
    await syncDirectory(dirname(path));
    file = await open(path, 'a', 0o600);
    fileBytes = Buffer.byteLength(text);
    finished = 0;
    rewriteDue = false;
    return file;
  }

  /** Lines that are added while the disk is busy go to it together. */
  function append(line: Line): Promise<void> {
    return new Promise((resolve, reject) => {
      queue.push({ line, resolve, reject });
      writing ??= drain().finally(() => {
        writing = undefined;
      });
    });
  }

  async function drain(): Promise<void> {
    while (queue.length > 0) {
      const batch = queue;
      queue = [];
      try {
        const target = file === undefined || rewriteDue ? await rewrite() : file;
        const text = batch.map(({ line }) => `${JSON.stringify(line)}\n`).join('');
        await target.appendFile(text);
        await target.datasync();
        fileBytes += Buffer.byteLength(text);
        for (const { line, resolve } of batch) {
          apply(line);
          resolve();
        }
      } catch (error) {
        // What was written of it must go: its callers are told that nothing is sent, now or later.
        rewriteDue = true;
        await file?.truncate(fileBytes).catch(() => {});
        for (const { reject } of batch) reject(problem('it cannot be written', error));
      }
    }
  }

  function apply(line: Line): void {
    if ('begin' in line) {
      const name = nameOf(line.begin);
      entries.set(name, line.begin);
      leases.set(name, line.begin.deadlineAtMs);
    } else {
      finished += 2;
      if (finished > COMPACT_AFTER_LINES) rewriteDue = true;
    }
  }

  return {
    async begin(entry) {
      await opened();
      await append({ begin: entry });
    },
    async settle(origin, key) {
      await opened();
      const name = nameOf({ origin, key });
      leases.delete(name);
      if (!entries.delete(name)) return;
      // Nobody waits for this line: without it the call is finished once more, with the same key. A disk that fails
      // is noticed by the next call that begins.
      append({ settle: { origin, key } }).catch(() => {});
    },
    async claim(origin, leaseMs) {
      await opened();
      const nowMs = now();
      for (const [name, entry] of entries) {
        if (entry.origin !== origin || (leases.get(name) ?? 0) > nowMs) continue;
        leases.set(name, nowMs + leaseMs);
        // To the end of the line: one that fails again and again must not keep others from their turn.
        entries.delete(name);
        entries.set(name, entry);
        return entry;
      }
      return undefined;
    },
    async close() {
      if (closed) return;
      closed = true;
      await opening?.catch(() => {});
      await writing;
      await file?.close();
      if (opening) await rm(lockPath, { force: true });
    },
  };
}

/** An origin has no space. */
function nameOf({ origin, key }: Name): string {
  return `${origin} ${key}`;
}

/** A last line without its end was being written when the process died: its call had not been sent. */
function parseLines(text: string): readonly Line[] {
  const lines = text.split('\n');
  lines.pop();
  return lines.map((line, index) => {
    try {
      const parsed = JSON.parse(line) as Line;
      if ('begin' in parsed ? parsed.begin.version === 1 : parsed.settle.origin) return parsed;
    } catch {
      // Said below.
    }
    throw problem(`line ${index + 1} cannot be read`);
  });
}

async function writeDurably(path: string, text: string): Promise<void> {
  const handle = await open(path, 'w', 0o600);
  try {
    await handle.writeFile(text);
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

/** A rename is only on the disk when its directory is. Not every system lets a directory be opened for that. */
async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}

function ignoreMissing(error: unknown): string {
  if ((error as { code?: unknown }).code === 'ENOENT') return '';
  throw problem('it cannot be read', error);
}

function problem(why: string, cause?: unknown): ClientError {
  return new ClientError(
    'ERR_CLIENT_JOURNAL',
    `the journal cannot be used: ${why}`,
    {},
    cause === undefined ? undefined : { cause },
  );
}
