import type { HeaderEntry } from '@countersign/guard';

/** One `WWW-Authenticate` challenge (RFC 6750 §3, RFC 9449 §7.1, RFC 9728 §5.1). */
export interface Challenge {
  readonly scheme: 'Bearer' | 'DPoP';
  /** Absent and empty ones are left out. */
  readonly parameters: Readonly<Record<string, string | undefined>>;
}

/** Writes challenges as `WWW-Authenticate` fields, one each: some clients read only the first of a list. */
export function wwwAuthenticate(challenges: readonly Challenge[]): readonly HeaderEntry[] {
  return challenges.map(({ scheme, parameters }) => {
    const written = Object.entries(parameters)
      .filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== '')
      .map(([name, value]) => `${name}=${quoted(value)}`);
    return ['www-authenticate', written.length ? `${scheme} ${written.join(', ')}` : scheme];
  });
}

/** RFC 9110 §5.6.4, limited to the characters RFC 6750 §3 allows in descriptions and scopes. */
function quoted(value: string): string {
  return `"${value.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&')}"`;
}
