import type { GenericClaims } from './claims.ts';
import { JwtError } from './errors.ts';

/**
 * The scopes a token grants: `scope` (RFC 9068 §2.2.3, separated by spaces), else `scp` (an array, or the same text).
 * @throws JwtError `ERR_JWT_CLAIM_INVALID` when the claim is neither
 */
export function scopesOf(claims: GenericClaims): readonly string[] {
  const { scope } = claims;
  if (scope !== undefined) return split(scope, 'scope');
  const scp = claims['scp'];
  if (scp === undefined) return [];
  if (Array.isArray(scp) && scp.every((one) => typeof one === 'string')) return scp;
  return split(scp, 'scp');
}

function split(value: unknown, member: string): readonly string[] {
  if (typeof value !== 'string')
    throw new JwtError('ERR_JWT_CLAIM_INVALID', `${member} does not list scopes`, { member });
  return value.split(' ').filter((scope) => scope !== '');
}
