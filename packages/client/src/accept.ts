import type { AttemptPolicy, Ending, Order } from './call.ts';
import { ClientError, type ClientErrorDetails, type Problem } from './errors.ts';
import type { Answer } from './exchange.ts';
import { balanceOf } from './failure.ts';
import type { ResponseHeaders } from './headers.ts';
import type { RequestOptions } from './options.ts';
import type { OriginState } from './origin.ts';
import {
  decompress,
  decompressBeginning,
  isProblem,
  parseBody,
  type ReadAs,
  TooLargeError,
} from './response.ts';
import { single } from './retry-policy.ts';
import type { SchemaResult, StandardSchema } from './standard-schema.ts';

/** An acceptable response: its status is below 400. */
export interface ClientResponse<T = unknown> {
  readonly status: number;
  readonly headers: ResponseHeaders;
  /** JSON parsed, text as a string, everything else as bytes; `undefined` when there is none. */
  readonly body: T;
  /** Attempts that were made, redirects and hedges included. */
  readonly attempts: number;
  /** The key that was sent. */
  readonly idempotencyKey?: string;
  /** Whether the server answered with a response it had given before under this key. */
  readonly replayed: boolean;
  readonly requestId: string;
}

/** @throws ClientError when the response is an error, cannot be read, or does not match the schema. */
export async function acceptResponse<T>(
  ending: Ending,
  { identity: { idempotencyKey, requestId } }: Order,
  state: OriginState,
  { maxResponseBytes, maxErrorBytes }: Pick<AttemptPolicy, 'maxResponseBytes' | 'maxErrorBytes'>,
  { as = 'auto', schema }: Pick<RequestOptions<T>, 'as' | 'schema'>,
): Promise<ClientResponse<T>> {
  const { answer, attempts, stopped } = ending;
  const { status, headers } = answer;
  if (status >= 400) throw await refusal(ending, state, maxErrorBytes);
  const details: ClientErrorDetails = { status, headers, attempts, stopped };
  let body: unknown;
  try {
    body = await readBody(answer.body, headers, as, maxResponseBytes);
  } catch (error) {
    throw unreadable(error, details);
  }
  if (schema && status < 300) body = await validate(schema, body, details);
  return {
    status,
    headers,
    body: body as T,
    attempts,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    replayed: isReplay(headers),
    requestId,
  };
}

const READ_AS: ReadonlySet<unknown> = new Set<ReadAs>(['auto', 'json', 'text', 'bytes']);

/** Before the call is made: when the response is there, what was asked for has been done. @throws TypeError */
export function checkAcceptance({ as, schema }: Pick<RequestOptions, 'as' | 'schema'>): void {
  if (as !== undefined && !READ_AS.has(as)) {
    throw new TypeError("as must be 'auto', 'json', 'text' or 'bytes'");
  }
  if (schema !== undefined && typeof schema?.['~standard']?.validate !== 'function') {
    throw new TypeError('schema must be a Standard Schema');
  }
}

const MAX_TITLE_CHARACTERS = 200;

/** The error that an answer with an error status is. */
export async function refusal(
  { answer, attempts, stopped, retryAfterMs }: Ending,
  state: OriginState,
  maxBytes: number,
): Promise<ClientError> {
  const { status, headers } = answer;
  const { body, truncated } = await errorBody(answer, maxBytes);
  const details: ClientErrorDetails = {
    status,
    headers,
    body,
    attempts,
    stopped,
    ...balanceOf(state),
    ...(truncated ? { bodyTruncated: true } : {}),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
  if (!isProblem(headers) || !isObject(body)) {
    return new ClientError('ERR_CLIENT_STATUS', `the server answered ${status}`, details);
  }
  const title = typeof body.title === 'string' ? `: ${oneLine(body.title)}` : '';
  return new ClientError('ERR_CLIENT_PROBLEM', `the server answered ${status}${title}`, {
    ...details,
    problem: body,
  });
}

/** A server's words in our message: without what would break a log's lines, and not for pages. */
function oneLine(words: string): string {
  const line = words.slice(0, MAX_TITLE_CHARACTERS).replace(/\p{C}+/gu, ' ');
  return words.length > MAX_TITLE_CHARACTERS ? `${line}…` : line;
}

/**
 * Its beginning, as text, where it is longer than is kept; text, too, where it is not the JSON that it is called;
 * `undefined` where it cannot be decoded: the status says enough.
 */
async function errorBody(
  { body, headers, truncated }: Answer,
  maxBytes: number,
): Promise<{ readonly body: unknown; readonly truncated: boolean }> {
  try {
    if (!truncated) {
      return { body: await readBody(body, headers, 'auto', maxBytes), truncated };
    }
  } catch (error) {
    if (error instanceof SyntaxError) {
      return { body: await readBody(body, headers, 'text', maxBytes), truncated };
    }
    if (!(error instanceof TooLargeError)) return { body: undefined, truncated };
  }
  const beginning = await decompressBeginning(body, headers, maxBytes).catch(() => undefined);
  return { body: beginning?.toString('utf8') || undefined, truncated: true };
}

async function readBody(
  bytes: Buffer,
  headers: ResponseHeaders,
  as: ReadAs,
  maxBytes: number,
): Promise<unknown> {
  const coded = headers['content-encoding'] !== undefined;
  return parseBody(coded ? await decompress(bytes, headers, maxBytes) : bytes, headers, as);
}

function unreadable(error: unknown, details: ClientErrorDetails): ClientError {
  const { message } = error as Error;
  if (error instanceof TooLargeError) {
    return new ClientError('ERR_CLIENT_RESPONSE_TOO_LARGE', message, details);
  }
  // What JSON.parse says quotes the body, which is not for logs: no cause, no message.
  const why = error instanceof SyntaxError ? 'it is not JSON' : message;
  return new ClientError(
    'ERR_CLIENT_INVALID_RESPONSE',
    `the response body cannot be read: ${why}`,
    details,
  );
}

async function validate<T>(
  schema: StandardSchema<T>,
  body: unknown,
  details: ClientErrorDetails,
): Promise<T> {
  let issues: SchemaResult<T>['issues'];
  try {
    const result = await schema['~standard'].validate(body);
    if (result.issues === undefined) return result.value;
    ({ issues } = result);
  } catch (error) {
    const message = 'the schema failed';
    throw new ClientError('ERR_CLIENT_SCHEMA', message, { ...details, body }, { cause: error });
  }
  throw new ClientError('ERR_CLIENT_SCHEMA', 'the response does not match the schema', {
    ...details,
    body,
    issues,
  });
}

/** `Idempotency-Replayed`, or Stripe's name for it. */
function isReplay(headers: ResponseHeaders): boolean {
  const marker = single(headers, 'idempotency-replayed') ?? single(headers, 'idempotent-replayed');
  return marker === 'true';
}

function isObject(value: unknown): value is Problem {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
