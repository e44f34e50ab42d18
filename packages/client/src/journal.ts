import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ClientError } from './errors.ts';
import type { JournalEntry, JournalStore } from './store.ts';

export type { JournalEntry, JournalStore } from './store.ts';

interface Write {
  readonly text: string;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

type Line = { readonly begin: JournalEntry } | { readonly settle: string };

/** The file is written anew when this many of its lines are about calls that are over. */
const COMPACT_AFTER_LINES = 1000;

/**
 * A journal in a file, for one process at a time: JSON lines, readable by the owner only, on the disk (`fdatasync`)
 * before a call is sent. It holds request bodies as they are: put it where they may be.
 * @throws ClientError `ERR_CLIENT_JOURNAL`, from the first use, when the file is in use or damaged.
 */
export function fileJournal(path: string): JournalStore {
  if (typeof path !== 'string' || path === '') throw new TypeError('path must name a file');
  const lockPath = `${path}.lock`;
  const entries = new Map<string, JournalEntry>();
  /** What this process is at work on itself, and until when. */
  const leases = new Map<string, number>();
  let opening: Promise<FileHandle> | undefined;
  let finished = 0;
  let queue: Write[] = [];
  let writing: Promise<void> | undefined;
  let closed = false;

  const opened = (): Promise<FileHandle> => {
    if (closed) return Promise.reject(problem('it has been closed'));
    opening ??= openJournal();
    return opening;
  };

  async function openJournal(): Promise<FileHandle> {
    await lock(lockPath);
    try {
      for (const line of parseLines(await readFile(path, 'utf8').catch(ignoreMissing))) {
        if ('begin' in line) entries.set(line.begin.key, line.begin);
        else entries.delete(line.settle);
      }
      return await rewrite();
    } catch (error) {
      await rm(lockPath, { force: true });
      throw error;
    }
  }

  /** Writes what is still open into a new file and puts it in place of the old one, at once or not at all. */
  async function rewrite(): Promise<FileHandle> {
    const next = `${path}.next`;
    const text = [...entries.values()].map((begin) => `${JSON.stringify({ begin })}\n`).join('');
    const handle = await open(next, 'w', 0o600);
    await handle.writeFile(text);
    await handle.datasync();
    await handle.close();
    await rename(next, path);
    await syncDirectory(dirname(path));
    finished = 0;
    return open(path, 'a', 0o600);
  }

  /** Lines that are added while the disk is busy go to it together. */
  async function append(line: Line): Promise<void> {
    await opened();
    return new Promise((resolve, reject) => {
      queue.push({ text: `${JSON.stringify(line)}\n`, resolve, reject });
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
        const handle = await opened();
        await handle.appendFile(batch.map(({ text }) => text).join(''));
        await handle.datasync();
        for (const { resolve } of batch) resolve();
        if (finished > COMPACT_AFTER_LINES) {
          await handle.close();
          opening = rewrite();
          await opening;
        }
      } catch (error) {
        for (const { reject } of batch) reject(problem('it cannot be written', error));
      }
    }
  }

  return {
    async begin(entry) {
      await opened();
      entries.set(entry.key, entry);
      leases.set(entry.key, entry.deadlineAtMs);
      await append({ begin: entry });
    },
    async settle(_origin, key) {
      await opened();
      leases.delete(key);
      if (!entries.delete(key)) return;
      finished += 2;
      // Nobody waits for this line: without it the call is finished once more, with the same key. A disk that fails
      // is noticed by the next call that begins.
      append({ settle: key }).catch(() => {});
    },
    async claim(origin, leaseMs) {
      await opened();
      const now = Date.now();
      for (const entry of entries.values()) {
        if (entry.origin !== origin || (leases.get(entry.key) ?? 0) > now) continue;
        leases.set(entry.key, now + leaseMs);
        return entry;
      }
      return undefined;
    },
    async close() {
      if (closed) return;
      const handle = await opening?.catch(() => undefined);
      await writing;
      closed = true;
      await handle?.close();
      if (handle) await rm(lockPath, { force: true });
    },
  };
}

/** A last line without its end was being written when the process died: its call had not been sent. */
function parseLines(text: string): readonly Line[] {
  const lines = text.split('\n');
  lines.pop();
  return lines.map((line, index) => {
    try {
      const parsed = JSON.parse(line) as Line;
      if ('settle' in parsed || parsed.begin.version === 1) return parsed;
    } catch {
      // Said below.
    }
    throw problem(`line ${index + 1} cannot be read`);
  });
}

async function lock(lockPath: string): Promise<void> {
  for (let tries = 0; tries < 2; tries += 1) {
    try {
      await writeFile(lockPath, String(process.pid), { flag: 'wx', mode: 0o600 });
      return;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'EEXIST')
        throw problem('it cannot be locked', error);
    }
    const holder = Number(await readFile(lockPath, 'utf8').catch(ignoreMissing));
    if (holder > 0 && isAlive(holder)) {
      throw problem(`process ${holder} has it open; if that is not so, remove ${lockPath}`);
    }
    await rm(lockPath, { force: true });
  }
  throw problem('another process was faster');
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM';
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
