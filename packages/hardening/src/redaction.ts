/** What stands in a log in the place of a secret. */
export const redacted = '[redacted]';

/** Parts of the names of fields and parameters whose values are secrets, or prove something. */
const secretNames =
  /auth|cookie|token|secret|passw|passphrase|pwd|(?:api|access|subscription)-?_?key|private|session|credential|signature|^sig$|^key$|^sid$|^pass$|hmac|csrf|xsrf|jwt|dpop|assertion|^code$|^otp$|^pin$|^state$|^nonce$/i;

/** What is a secret wherever it stands: a scheme with credentials, a JSON Web Token, a key with a telling prefix. */
const secretValues =
  /^(?:basic|bearer|dpop|apikey|digest|negotiate)\s|eyJ[\w-]{4,}\.|\b(?:sk|rk|pk|whsec|whsk|ghp|gho|xox[a-z])[-_][\w-]{16}/i;

/** What of one request may be written down. */
export interface Redaction {
  /** The name of a parameter, cut to 100 characters, or `[redacted]`: whoever sends it chooses it. */
  name(name: string): string;
  /** The value of a header or parameter, cut to 256 characters, or `[redacted]`. */
  value(name: string, value: string): string;
  /** A path, cut to 512 characters, without the segments that are secrets. */
  path(path: string): string;
}

/**
 * @param names - of further headers and parameters whose values must not be written down, in any letter case.
 */
export function redaction(names: readonly string[] = []): Redaction {
  const further = new Set(names.map((name) => name.toLowerCase()));
  return {
    name: (name) => (isSecret(name) ? redacted : name.slice(0, 100)),
    value: (name, value) =>
      further.has(name.toLowerCase()) || secretNames.test(name) || isSecret(value)
        ? redacted
        : cut(value, 256),
    path: (path) =>
      cut(path, 512)
        .split('/')
        .map((segment) => (isSecret(segment) ? redacted : segment))
        .join('/'),
  };
}

/** What stands behind what is looked at is cut off anyway; and the patterns may take quadratic time. */
function isSecret(value: string): boolean {
  return secretValues.test(value.slice(0, 512));
}

function cut(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length)}…`;
}
