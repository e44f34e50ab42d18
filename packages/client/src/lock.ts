import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';

/**
 * Takes a lock file, which names the process that has it, or takes it over from a process that is gone.
 * @throws Error that says who has it, or why it cannot be had.
 */
export async function takeLock(path: string): Promise<void> {
  // Written under a name of its own first, so that nobody ever reads a lock that is half written.
  const mine = `${path}.${randomUUID()}`;
  await writeFile(mine, await describeProcess(process.pid), { flag: 'wx', mode: 0o600 });
  try {
    if (!(await linked(mine, path))) await takeOver(mine, path);
  } finally {
    await rm(mine, { force: true });
  }
}

/** One at a time: whoever comes second must not take away the lock that the first has just taken over. */
async function takeOver(mine: string, path: string): Promise<void> {
  const turn = `${path}.takeover`;
  if (!(await linked(mine, turn))) {
    throw new Error(`another process is taking it over; if that is not so, remove ${turn}`);
  }
  try {
    const holder = await readIfThere(path);
    if (holder !== undefined && (await isRunning(holder))) {
      const [pid] = holder.split(' ');
      throw new Error(`process ${pid} has it open; if that is not so, remove ${path}`);
    }
    if (holder !== undefined) await rename(mine, path);
    else if (!(await linked(mine, path))) throw new Error('another process was faster');
  } finally {
    await rm(turn, { force: true });
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'EEXIST') return false;
    throw error;
  }
}

/** Its number and, where the system tells, its start: numbers are given again, in a container to the very next process. */
async function describeProcess(pid: number): Promise<string> {
  const start = await startOf(pid);
  return start === undefined ? String(pid) : `${pid} ${start}`;
}

/** Whether a process that was described so is running. What is empty or damaged is what a power failure left. */
async function isRunning(description: string): Promise<boolean> {
  const [number, start] = description.split(' ');
  const pid = Number(number);
  if (!(Number.isInteger(pid) && pid > 0 && isAlive(pid))) return false;
  const current = await startOf(pid);
  return start === undefined || current === undefined || current === start;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: unknown }).code === 'EPERM';
  }
}

/** When it was started, as Linux counts it (proc(5): field 22 of `stat`; the name in field 2 may hold anything). */
async function startOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    throw error;
  }
}
