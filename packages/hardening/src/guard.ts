import type { Guard, Pass } from '@countersign/guard';
import { type SecurityHeadersOptions, securityHeaders as serialise } from './security-headers.ts';

/**
 * A guard that lets every request pass and puts the security headers on its response, whatever it is.
 * @throws TypeError for the mistakes that `securityHeaders` names.
 */
export function securityHeaders(options: SecurityHeadersOptions): Guard<undefined> {
  const { secure, insecure } = serialise(options);
  const overTls: Pass<undefined> = { pass: true, context: undefined, headers: secure };
  const inClear: Pass<undefined> = { pass: true, context: undefined, headers: insecure };
  return (request) => (request.secure ? overTls : inClear);
}
