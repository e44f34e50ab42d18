import type { OptionNames } from '@countersign/options';
import type { AttemptOutcome } from './attempt.ts';
import type { PreparedTarget, WebhookDispatcher } from './endpoint.ts';
import { WebhookError } from './errors.ts';
import type { PreparedEvent } from './event.ts';
import { assertWhole } from './range.ts';
import type { AsyncSigner, Signer } from './signer.ts';

export interface AttemptSettings {
  /** Signs for endpoints that bring no signer of their own. */
  readonly signer?: Signer | AsyncSigner;
  /**
   * What connects: any undici dispatcher. Default: an `egressAgent()` with its own defaults: HTTPS to public
   * addresses only. It is closed with the sender; one that you pass is yours to close.
   */
  readonly egress?: WebhookDispatcher;
  /** For one attempt, from asking for the secrets to the last byte of the response, in milliseconds. Default 15,000. */
  readonly attemptTimeoutMs?: number;
  /** No more of a response is read, in bytes. Default 65,536. */
  readonly maxResponseBytes?: number;
  /** How much of a response is kept in `excerpt`, in bytes. Default 1,024; 0 for none. */
  readonly excerptBytes?: number;
  /**
   * Statuses that end a delivery at once. Default: none, because a wrong deployment of the receiver also answers 401
   * or 404 for an hour; `clientErrors` names all 4xx that a repetition will not change.
   */
  readonly isPermanent?: (status: number) => boolean;
  /** The clock, in milliseconds since the epoch. Default `Date.now`. */
  readonly now?: () => number;
}

export const attemptSettings: OptionNames<AttemptSettings> = {
  signer: true,
  egress: true,
  attemptTimeoutMs: true,
  maxResponseBytes: true,
  excerptBytes: true,
  isPermanent: true,
  now: true,
};

/** Makes attempts, with one agent for all of them. */
export interface Attempter {
  attempt(
    event: PreparedEvent,
    target: PreparedTarget,
    attempt: number,
    signal?: AbortSignal,
  ): Promise<AttemptOutcome>;
  /** Closes the agent, if it is our own. */
  close(): Promise<void>;
}

interface OwnAgent extends WebhookDispatcher {
  close(): Promise<void>;
}

/** All 4xx except those that say "later": 408, 409, 425, 429. */
export function clientErrors(status: number): boolean {
  return status >= 400 && status < 500 && ![408, 409, 425, 429].includes(status);
}

/**
 * Nothing of the sending side is loaded before it is used: who only verifies installs nothing else.
 * @throws TypeError when an option is out of range.
 */
export function createAttempter(settings: AttemptSettings): Attempter {
  const { attemptTimeoutMs = 15_000, maxResponseBytes = 65_536, excerptBytes = 1024 } = settings;
  const { signer: usual, isPermanent = () => false, now = Date.now } = settings;
  // A program without types would fail in every attempt, for as long as the schedule has any.
  if (usual !== undefined && typeof usual?.sign !== 'function') {
    throw new TypeError('signer must be what createSigner makes');
  }
  if (settings.egress !== undefined && typeof settings.egress?.dispatch !== 'function') {
    throw new TypeError('egress must be a dispatcher of undici, such as egressAgent()');
  }
  if (typeof isPermanent !== 'function') throw new TypeError('isPermanent must be a function');
  assertWhole('attemptTimeoutMs', attemptTimeoutMs, 1, 600_000);
  assertWhole('maxResponseBytes', maxResponseBytes, 0, Number.MAX_SAFE_INTEGER);
  assertWhole('excerptBytes', excerptBytes, 0, 65_536);
  let own: Promise<OwnAgent> | undefined;
  let making: Promise<typeof import('./attempt.ts')> | undefined;

  const ownAgent = (): Promise<OwnAgent> => {
    own ??= defaultAgent();
    return own;
  };

  return {
    async attempt(event, target, attempt, signal) {
      const signer = target.signer ?? usual;
      if (!signer) {
        throw new WebhookError(
          'ERR_WEBHOOKS_ENDPOINT_INVALID',
          'neither the endpoint nor the sender has a signer',
        );
      }
      making ??= peer('@countersign/retry', () => import('./attempt.ts'));
      const { makeAttempt } = await making;
      const egress = target.egress ?? settings.egress ?? (await ownAgent());
      return await makeAttempt(event, target, attempt, {
        egress,
        signer,
        attemptTimeoutMs,
        maxResponseBytes,
        excerptBytes,
        isPermanent,
        now,
        ...(signal && { signal }),
      });
    },
    async close() {
      await (await own)?.close();
    },
  };
}

async function defaultAgent(): Promise<OwnAgent> {
  const { egressAgent } = await peer('@countersign/egress', () => import('@countersign/egress'));
  return egressAgent();
}

/** Loads an optional peer, and says which one to install when it is not there. */
export async function peer<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    throw new WebhookError('ERR_WEBHOOKS_PEER_MISSING', `to send webhooks, install ${name}`, {
      cause,
    });
  }
}
