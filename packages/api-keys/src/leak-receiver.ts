import { hash, verify } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import type { ApiKeys } from './api-keys.ts';
import { ApiKeysError } from './errors.ts';
import { publish } from './events.ts';
import { githubKeys, type ReportKeys } from './github-keys.ts';
import { assertCount, assertFunction } from './options.ts';
import type { KeyRecord } from './record.ts';

export interface LeakReceiverOptions {
  /** Those whose keys may be reported: one, or one for each environment and prefix. */
  readonly keys: ApiKeys | readonly ApiKeys[];
  /** Where the reporter's public keys come from. Default `githubKeys()`. */
  readonly publicKeys?: ReportKeys;
  /** The largest report taken, in bytes. Default 4 MiB. */
  readonly maxBodyBytes?: number;
}

/** What the reporter is told of one match, in the words of GitHub's protocol. */
export interface LeakFeedback {
  /** SHA-256 of the reported token, hexadecimal. */
  readonly token_hash: string;
  readonly token_type: string;
  readonly label: 'true_positive' | 'false_positive';
}

/** Anything with the header fields of a request: a guard's, or a `Headers`. */
export interface ReportHeaders {
  get(name: string): string | null | undefined;
}

export interface LeakReceiver {
  /**
   * Takes a report: checks its signature, revokes each genuine key in it, reports it on
   * `countersign:api-keys:leaked`, and answers what was genuine.
   * @param body - the raw body; the signature covers its bytes.
   * @throws ApiKeysError `ERR_API_KEYS_REPORT_SIGNATURE`, `_REPORT_MALFORMED`, `_REPORT_KEYS`; what the store throws.
   */
  receive(body: Uint8Array, headers: ReportHeaders): Promise<readonly LeakFeedback[]>;
}

interface Match {
  readonly token: string;
  readonly type: string;
  readonly url: string;
  readonly source: string;
}

const MAX_MATCHES = 10_000;
const MAX_TOKEN_LENGTH = 512;
const PARALLEL = 16;

const KNOWN: OptionNames<LeakReceiverOptions> = {
  keys: true,
  publicKeys: true,
  maxBodyBytes: true,
};

/**
 * The receiving end of GitHub's secret-scanning partner protocol.
 * @throws TypeError for options that cannot work.
 */
export function createLeakReceiver(options: LeakReceiverOptions): LeakReceiver {
  assertKnown(options, KNOWN);
  const managers = [options.keys].flat() as readonly ApiKeys[];
  if (managers.length === 0 || managers.some((keys) => typeof keys?.identify !== 'function'))
    throw new TypeError('keys must be made by createApiKeys: one, or a list of at least one');
  const publicKeys = options.publicKeys ?? githubKeys();
  const maxBodyBytes = assertCount('maxBodyBytes', options.maxBodyBytes ?? 4 * 1024 * 1024, 1);
  assertFunction('publicKeys', publicKeys);

  async function handle({ token, type, url, source }: Match): Promise<LeakFeedback> {
    const found = await genuine(managers, token);
    if (found) {
      const record = await found.keys.revoke(found.record.id, {
        reason: `leaked: ${source} ${url}`
          .replace(/\p{Cc}/gu, ' ')
          .trim()
          .slice(0, 200)
          .toWellFormed(),
        actor: 'secret scanning',
      });
      publish('leaked', () => ({ record, type, url, source }));
    }
    return {
      token_hash: hash('sha256', token, 'hex'),
      token_type: type,
      label: found ? 'true_positive' : 'false_positive',
    };
  }

  return {
    async receive(body, headers) {
      if (body.byteLength > maxBodyBytes) throw malformed(`larger than ${maxBodyBytes} bytes`);
      await assertSignature(body, headers, publicKeys);
      const matches = parseMatches(body);
      const feedback: LeakFeedback[] = [];
      const failures: unknown[] = [];
      for (let from = 0; from < matches.length; from += PARALLEL) {
        const part = await Promise.allSettled(matches.slice(from, from + PARALLEL).map(handle));
        for (const outcome of part) {
          if (outcome.status === 'rejected') failures.push(outcome.reason);
          else feedback.push(outcome.value);
        }
        if (part.every(({ status }) => status === 'rejected')) break; // not a bad record: the store is out
      }
      // One bad record must not save the others: the failure is passed on once they are revoked.
      if (failures.length > 0) throw failures[0];
      return feedback;
    },
  };
}

async function genuine(
  managers: readonly ApiKeys[],
  token: string,
): Promise<{ keys: ApiKeys; record: KeyRecord } | undefined> {
  for (const keys of managers) {
    const record = await keys.identify(token);
    if (record) return { keys, record };
  }
  return undefined;
}

async function assertSignature(
  body: Uint8Array,
  headers: ReportHeaders,
  publicKeys: ReportKeys,
): Promise<void> {
  const identifier = headers.get('Github-Public-Key-Identifier');
  const signature = headers.get('Github-Public-Key-Signature');
  if (!identifier || !signature) throw unsigned('the report is not signed');
  const key = await publicKeys(identifier);
  if (!key) throw unsigned('the report names a key that its sender does not have');
  const bytes = Buffer.from(signature, 'base64');
  if (!verify('sha256', body, { key, dsaEncoding: 'der' }, bytes))
    throw unsigned('the signature is wrong');
}

function parseMatches(body: Uint8Array): readonly Match[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    throw malformed('not JSON'); // without its cause, which quotes the body
  }
  if (!Array.isArray(parsed) || parsed.length > MAX_MATCHES) {
    throw malformed(`not a list of at most ${MAX_MATCHES} matches`);
  }
  return parsed.map((match: Partial<Record<keyof Match, unknown>> | null) => {
    const { token, type } = match ?? {};
    if (typeof token !== 'string' || token.length > MAX_TOKEN_LENGTH || typeof type !== 'string') {
      throw malformed('a match without token or type');
    }
    return { token, type, url: textOf(match?.url), source: textOf(match?.source) };
  });
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 2048) : '';
}

function unsigned(message: string): ApiKeysError {
  return new ApiKeysError('ERR_API_KEYS_REPORT_SIGNATURE', message);
}

function malformed(what: string): ApiKeysError {
  return new ApiKeysError('ERR_API_KEYS_REPORT_MALFORMED', `the report is ${what}`);
}
