import { createHash } from 'node:crypto';
import { RateLimitError } from './errors.ts';

const longest = 100;
const hashMark = '#';
const hashMarkCode = hashMark.charCodeAt(0);

/**
 * The name under which a subject's state is kept: the subject itself, or, when it is long, its hash, so that what strangers
 * send never decides how much is stored.
 */
export function subjectKey(subject: string): string {
  if (typeof subject !== 'string' || subject === '') throw noSubject();
  return subject.length <= longest && subject.charCodeAt(0) !== hashMarkCode
    ? subject
    : hashed(subject);
}

/** The same for a store whose keys people look at: control characters are hashed away too. */
export function printableKey(subject: string): string {
  return /^[\x21-\x7e]*$/.test(subject) ? subject : hashed(subject);
}

function noSubject(): RateLimitError {
  return new RateLimitError(
    'ERR_RATE_LIMIT_SUBJECT',
    'the subject must be a string that is not empty',
  );
}

function hashed(subject: string): string {
  return hashMark + createHash('sha256').update(subject, 'utf16le').digest('base64url');
}
