import { IdempotencyError } from './errors.ts';

const maxLength = 255;
// RFC 9651 §3.3.3: printable ASCII between double quotes, where only `"` and `\` may be, and must be, escaped.
const quoted = /^ *"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)" *$/;
const unquoted = /^[A-Za-z0-9._~:+/=-]+$/;

/** Options of {@link parseIdempotencyKey}. */
export interface KeyOptions {
  /**
   * Also accept a bare value of letters, digits and `. _ ~ : + / = -`, such as the unquoted UUID that most clients
   * send; it means the same key as the quoted one. Default true.
   */
  readonly unquoted?: boolean;
}

/**
 * Reads the field value of `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07 §2.1): a structured-field
 * String (RFC 9651 §3.3.3) of 1 to 255 characters, without parameters.
 * @throws IdempotencyError `ERR_IDEMPOTENCY_KEY_MALFORMED`; the message does not repeat the value.
 */
export function parseIdempotencyKey(value: string, options: KeyOptions = {}): string {
  // Without types it may be what stands for no header field.
  if (typeof value !== 'string') throw malformed('expected the value of a header field');
  const string = quoted.exec(value)?.[1]?.replace(/\\(["\\])/g, '$1');
  const key = string ?? ((options.unquoted ?? true) && unquoted.test(value) ? value : undefined);
  if (key === undefined) {
    throw malformed(
      'expected one structured-field String, e.g. "8e03978e-40d5-43dd-bc93-6894a57f9324"',
    );
  }
  if (key.length === 0 || key.length > maxLength) {
    throw malformed(`expected 1 to ${maxLength} characters, got ${key.length}`);
  }
  return key;
}

function malformed(detail: string): IdempotencyError {
  return new IdempotencyError('ERR_IDEMPOTENCY_KEY_MALFORMED', `Idempotency-Key: ${detail}`);
}
