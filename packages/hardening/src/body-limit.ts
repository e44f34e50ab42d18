import type { Guard, Pass, Reply } from '@countersign/guard';
import { assertKnown } from './options.ts';
import { problem } from './problem.ts';

/** What `bodyLimit` takes. */
export interface BodyLimitOptions {
  /** The largest body that reaches a handler. */
  readonly maxBytes: number;
}

const pass: Pass<undefined> = { pass: true, context: undefined };
const tooLarge: Reply = problem({ status: 413 });

/**
 * A guard that refuses larger bodies with 413: by their `Content-Length` before anything is read; and when they come in chunks, without a length, by
 * reading them, and not a byte more. The adapter's `maxBodyBytes` bounds these as well. The handler still finds all of the body.
 * @throws TypeError for an unknown option, and a bound that is none.
 */
export function bodyLimit(options: BodyLimitOptions): Guard<undefined> {
  assertKnown('bodyLimit', options, ['maxBytes']);
  const { maxBytes } = options;
  if (!Number.isSafeInteger(maxBytes) || maxBytes < 0) {
    throw new TypeError('bodyLimit: maxBytes must be an integer of 0 or more');
  }
  return (request) => {
    if (request.headers.get('transfer-encoding') !== undefined) {
      return request
        .rawBody(maxBytes)
        .then((bytes) => (bytes.length <= maxBytes ? pass : tooLarge));
    }
    const length = request.headers.get('content-length');
    // Several lengths, or none that is a number, are no length within the bound.
    return length === undefined || Number(length) <= maxBytes ? pass : tooLarge;
  };
}
