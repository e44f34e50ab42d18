import type { JwtErrorCode } from '../../src/index.ts';
import { AUDIENCE, ISSUER, type SigningKey, signingKey } from '../issuer.ts';

/** What somebody tries, and how it must end. */
export interface Attack {
  readonly name: string;
  /** Whatever reaches `verify`: not always a string. */
  readonly token: unknown;
  readonly code: JwtErrorCode;
}

export type AttackRow = readonly [name: string, token: unknown, code: JwtErrorCode];

export function attacks(rows: readonly AttackRow[]): readonly Attack[] {
  return rows.map(([name, token, code]) => ({ name, token, code }));
}

/** The key the verifier under attack trusts. */
export const trusted: SigningKey = signingKey('RS256', 'key-1');
/** A second issuer's key: trusted too, but not for the first issuer's tokens. */
export const neighbour: SigningKey = signingKey('RS256', 'key-2');
/** The attacker's own. */
export const attacker: SigningKey = signingKey('RS256', 'key-1');

export { AUDIENCE, ISSUER };
export const NEIGHBOUR = 'https://auth.example.net';
