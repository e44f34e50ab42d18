import type { Guard, GuardRequest, Reply } from '@countersign/guard';
import type * as z from 'zod';
import { compiled } from './compiled.ts';
import { HardeningError, type HardeningErrorCode } from './errors.ts';
import { publish } from './events.ts';
import { type InputOptions, queryShape, input as reader } from './input.ts';
import { problem } from './problem.ts';
import { upload as fileOf, type UploadedFile, type UploadOptions } from './upload.ts';

/** What the input guard takes. */
export interface InputGuardOptions extends InputOptions {
  /** Where the input is. Default `body`: JSON. `query`: the parameters in the URL. */
  readonly from?: 'body' | 'query';
}

/** A guard whose context is what came in. */
export type InputGuard<Value> = Guard<Value> & {
  /** For the audit: where it comes from. */
  readonly from: 'body' | 'query';
};

/**
 * A guard that lets a request pass with what `input` makes of its JSON body, or of its query, and answers 400 otherwise: which fields, which rules, no
 * values. A body that is too large is 413, one that is not declared as JSON is 415.
 * @throws TypeError for what `input` refuses to be built with, and for a schema with an async function in it: nobody waits for it.
 */
export function input<Schema extends z.ZodType>(
  schema: Schema,
  { from = 'body', ...options }: InputGuardOptions = {},
): InputGuard<z.output<Schema>> {
  if (from !== 'body' && from !== 'query') {
    throw new TypeError('input: from must be "body" or "query"');
  }
  const read = reader(schema, options);
  compiled('input', schema);
  if (from === 'query') queryShape(read.schema);
  const guard: Guard<z.output<Schema>> = async (request) =>
    answering(async () => {
      if (from === 'query') return read.parseQuery(request.query);
      checkMediaType(request, JSON_TYPE);
      checkLength(request, read.bounds.maxBytes);
      return read.parse(await bodyOf(request, read.bounds.maxBytes));
    });
  return Object.assign(guard, { from });
}

/**
 * A guard that lets a request pass whose body is one file of the declared type: `upload` of its `Content-Type` and its bytes. The adapter's `maxBodyBytes`
 * bounds it as well.
 * @throws TypeError for what `upload` refuses to be built with.
 */
export function upload(options: UploadOptions = {}): InputGuard<UploadedFile> {
  const schema = fileOf(options);
  const { maxBytes = 10_485_760 } = options;
  const read = reader(schema);
  const guard: Guard<UploadedFile> = async (request) =>
    answering(async () => {
      checkLength(request, maxBytes);
      checkMediaType(request, FILE_TYPE);
      const [type = ''] = (request.headers.get('content-type') ?? '').split(';');
      const bytes = await bodyOf(request, maxBytes);
      return read.checkAsync({ type: type.trim().toLowerCase(), bytes });
    });
  return Object.assign(guard, { from: 'body' } as const);
}

/** The answer to input that was refused; undefined for every other error. */
function inputRefusal(error: unknown): Reply | undefined {
  if (!(error instanceof HardeningError)) return undefined;
  const { code, message, errors } = error;
  const status = statuses[code];
  if (status === undefined) return undefined;
  return problem({ status, detail: message, code, ...(errors.length > 0 && { errors }) });
}

const JSON_TYPE = /^application\/(?:[\w!#$&^.-]+\+)?json$/i;
const FILE_TYPE = /^[a-z]+\/[a-z]+$/i;

const statuses: Partial<Readonly<Record<HardeningErrorCode, number>>> = {
  ERR_HARDENING_INPUT_TOO_LARGE: 413,
  ERR_HARDENING_INPUT_TOO_DEEP: 400,
  ERR_HARDENING_INPUT_TOO_MANY_KEYS: 400,
  ERR_HARDENING_INPUT_MALFORMED: 400,
  ERR_HARDENING_INPUT_MEDIA_TYPE: 415,
  ERR_HARDENING_INPUT_INVALID: 400,
};

async function answering<Value>(
  read: () => Promise<Value>,
): Promise<Reply | { readonly pass: true; readonly context: Value }> {
  try {
    return { pass: true, context: await read() };
  } catch (error) {
    const refusal = inputRefusal(error);
    if (refusal) return refusal;
    throw error;
  }
}

/** Before a byte of the body is read (RFC 9110 §15.5.16): a form that a page of another origin may send without asking is none of ours. */
function checkMediaType({ headers }: GuardRequest, expected: RegExp): void {
  const [field = '', ...more] = headers.all('content-type');
  const [type = '', ...parameters] = field.split(';').map((part) => part.trim());
  const encoding = headers.get('content-encoding') ?? 'identity';
  const isTaken = expected.test(type) && parameters.every(isHarmless) && encoding === 'identity';
  if (more.length === 0 && isTaken) return;
  throw refused('ERR_HARDENING_INPUT_MEDIA_TYPE', 'The input is not of a type that is taken here.');
}

/** JSON has one charset (RFC 8259 §8.1): one that says otherwise is meant for another reader. */
function isHarmless(parameter: string): boolean {
  const [name = '', value = ''] = parameter.split('=').map((part) => part.trim().toLowerCase());
  return name !== 'charset' || value === 'utf-8' || value === '"utf-8"';
}

/** What says that it is too large is not read at all. */
function checkLength({ headers }: GuardRequest, maxBytes: number): void {
  if (Number(headers.get('content-length') ?? 0) <= maxBytes) return;
  throw refused('ERR_HARDENING_INPUT_TOO_LARGE', `The input is larger than ${maxBytes} bytes.`);
}

/** What says nothing of its length is read as far as it is taken. The adapter's bound may be narrower still. */
async function bodyOf(request: GuardRequest, maxBytes: number): Promise<Uint8Array> {
  try {
    return await request.rawBody(maxBytes);
  } catch (error) {
    if ((error as { code?: unknown } | null)?.code !== 'ERR_GUARD_BODY_TOO_LARGE') throw error;
    throw refused('ERR_HARDENING_INPUT_TOO_LARGE', 'The input is larger than is taken here.');
  }
}

function refused(code: HardeningErrorCode, message: string): HardeningError {
  publish('input-refused', () => ({ code, errors: [] }));
  return new HardeningError(code, message);
}
