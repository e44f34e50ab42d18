import { StoreUnavailableError } from './errors.ts';

/** Redis has forgotten the script, or never knew it. */
export function isUnknownScript({ message }: Error): boolean {
  return message.startsWith('NOSCRIPT No matching script');
}

/** Another node of the Cluster will run it, or this one a little later. */
export function isRedirection({ message }: Error): boolean {
  return /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN) /.test(message);
}

const readOnly = /READONLY You can't write against a read only/;

/** The server has become a replica. */
export function isDemotion(reply: unknown): boolean {
  return reply instanceof Error && readOnly.test(reply.message);
}

/** Before Redis runs a script. */
const refused = /^(LOADING|BUSY|MASTERDOWN|MOVED|ASK|TRYAGAIN|CLUSTERDOWN) /;

/**
 * At the first write of a script; after one, Redis lets it go on. Redis before 7 says where in the script it was; a script's
 * own errors, which may begin with any code, are not taken for these.
 */
const refusedToWrite = new RegExp(
  `${readOnly.source}|MISCONF (Errors|\\w+ is configured)|NOREPLICAS Not enough good replicas`,
);

/** The typed error for an error that Redis answered instead of running a script. */
export function serverError(error: Error): StoreUnavailableError {
  return refused.test(error.message) ? refusal(error) : scriptError(error);
}

/** The typed error for an error that came out of a script. */
export function scriptError(error: Error): StoreUnavailableError {
  return refusedToWrite.test(error.message)
    ? refusal(error)
    : new StoreUnavailableError('ERR_STORE_FAILED', `Redis answered: ${error.message}`, {
        cause: withoutCommand(error),
      });
}

function refusal(error: Error): StoreUnavailableError {
  return new StoreUnavailableError(
    'ERR_STORE_UNAVAILABLE',
    `Redis cannot serve: ${error.message}`,
    { cause: withoutCommand(error), outcome: 'not-run' },
  );
}

/** ioredis hangs the command with all its arguments on its errors; they may hold secrets. */
export function withoutCommand({ message }: Error): Error {
  return new Error(message);
}
