/** Why something was refused. What a service must fix before it starts is a `TypeError` instead. */
export type HardeningErrorCode =
  | 'ERR_HARDENING_INPUT_TOO_LARGE'
  | 'ERR_HARDENING_INPUT_TOO_DEEP'
  | 'ERR_HARDENING_INPUT_TOO_MANY_KEYS'
  | 'ERR_HARDENING_INPUT_MALFORMED'
  | 'ERR_HARDENING_INPUT_MEDIA_TYPE'
  | 'ERR_HARDENING_INPUT_INVALID'
  | 'ERR_HARDENING_OUTPUT_MISMATCH';

/** One field that was refused. It names the field and the rule, never the value. */
export interface FieldError {
  /** Where: a JSON Pointer as a URI fragment (RFC 6901 §6), at most 200 characters; `#` is the whole. */
  readonly pointer: string;
  /** The rule that was broken, in lower case: `too_big`, `unrecognized_keys`, `privileged`, … */
  readonly code: string;
  /** One sentence for people. */
  readonly detail: string;
}

/** Thrown by this package for bad data. A mistake at construction is a `TypeError`. */
export class HardeningError extends Error {
  override readonly name = 'HardeningError';
  readonly code: HardeningErrorCode;
  /** What was refused, field by field: at most ten. Empty where the whole was refused. */
  readonly errors: readonly FieldError[];

  constructor(
    code: HardeningErrorCode,
    message: string,
    options?: ErrorOptions & { readonly errors?: readonly FieldError[] },
  ) {
    super(message, options);
    this.code = code;
    this.errors = options?.errors ?? [];
  }
}
