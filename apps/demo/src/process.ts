import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Happening, watch } from './happenings.ts';

/** What a service process offers to the process that started it. */
export interface Service {
  /** Where it listens; empty for one that only acts. */
  readonly url: string;
  /** Questions it answers outside HTTP: the demo looks inside, its attackers cannot. */
  readonly questions?: Readonly<Record<string, (argument: never) => unknown>>;
  close(): Promise<void>;
}

/** A service process, seen from the one that started it. */
export interface Running {
  readonly url: string;
  readonly pid: number;
  /** Resolves to how it ended, such as `ended (SIGKILL)`. */
  readonly ended: Promise<string>;
  /** Rejects when the service cannot answer, because it has ended for instance. */
  ask<Answer>(question: string, argument?: unknown): Promise<Answer>;
  stop(): Promise<void>;
}

type Request = { id: number; question: string; argument: unknown };
type Response = { id: number; answer?: unknown; error?: string };
type Report = { happening: Happening };

/**
 * Starts a service file as a process of its own. Configuration goes over the IPC channel and not through the environment,
 * because it holds private keys.
 * @param seen - told what the packages say in it; default nobody listens, and they say nothing.
 */
export async function launch(
  service: string,
  configuration: unknown,
  seen?: (happening: Happening) => void,
): Promise<Running> {
  const file = fileURLToPath(new URL(`./services/${service}.ts`, import.meta.url));
  const child = fork(file, { serialization: 'advanced' });
  const waiting = new Map<number, (response: Response) => void>();
  let lastId = 0;
  let stopping = false;
  let ending: string | undefined;

  const settle = (response: Response): void => {
    waiting.get(response.id)?.(response);
    waiting.delete(response.id);
  };
  child.on('message', (message: Response | Report) => {
    if ('happening' in message) seen?.(message.happening);
    else settle(message);
  });
  const ended = new Promise<string>((resolve) => {
    child.on('exit', (code, signal) => {
      ending = `ended (${signal ?? code})`;
      if (!stopping) console.error(`${service} ${ending}`);
      for (const id of waiting.keys()) settle({ id, error: ending });
      resolve(ending);
    });
  });

  const ask = <Answer>(question: string, argument?: unknown): Promise<Answer> => {
    lastId += 1;
    const request: Request = { id: lastId, question, argument };
    return new Promise((resolve, reject) => {
      waiting.set(request.id, ({ answer, error }) =>
        error === undefined ? resolve(answer as Answer) : reject(new Error(`${service}: ${error}`)),
      );
      if (ending !== undefined) return settle({ id: request.id, error: ending });
      // A service that is gone without having ended yet: its end tells why.
      child.send(request, () => undefined);
    });
  };
  const stop = async (): Promise<void> => {
    stopping = true;
    await end(child);
  };
  try {
    if (seen) await ask('watch');
    const url = await ask<string>('start', configuration);
    return { url, pid: child.pid as number, ended, ask, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The other side: runs in the service's process and answers its parent until that goes away. */
export function serve<Configuration>(
  start: (configuration: Configuration) => Promise<Service>,
): void {
  let service: Service | undefined;
  const answer = async ({ question, argument }: Request): Promise<unknown> => {
    if (question === 'watch') {
      watch((happening) => process.send?.({ happening } satisfies Report));
      return undefined;
    }
    if (question === 'start') {
      service = await start(argument as Configuration);
      return service.url;
    }
    const reply = service?.questions?.[question];
    if (!reply) throw new Error(`no answer to "${question}"`);
    return reply(argument as never);
  };
  process.on('message', (request: Request) => {
    answer(request).then(
      (value) => process.send?.({ id: request.id, answer: value } satisfies Response),
      (error: unknown) =>
        process.send?.({ id: request.id, error: describe(error) } satisfies Response),
    );
  });
  process.on('disconnect', () => process.exit());
  process.on('SIGTERM', () => {
    void (service?.close() ?? Promise.resolve()).finally(() => process.exit());
  });
  // The terminal sends SIGINT to the whole group; the parent decides when its services stop.
  process.on('SIGINT', () => undefined);
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000);
  await exited;
  clearTimeout(timer);
}
