import type { GenericClaims } from './claims.ts';
import type { Instant } from './clock.ts';
import type { DpopPolicy, DpopPresentation, UsedProof } from './dpop.ts';
import { JwtError } from './errors.ts';
import { certificateThumbprint } from './thumbprint.ts';

/** What came with a token to prove that its presenter is its holder. */
export interface Presentation {
  /** Given for the `DPoP` scheme (RFC 9449 §7.1). A token that is not bound to a DPoP key is then refused. */
  readonly dpop?: DpopPresentation;
  /** The certificate of the caller's TLS connection (RFC 8705 §3): DER bytes, or PEM. */
  readonly clientCertificate?: Uint8Array | string | undefined;
}

export interface BindingContext {
  readonly token: string;
  readonly presentation: Presentation | undefined;
  readonly dpop: DpopPolicy | undefined;
  readonly at: Instant;
  readonly toleranceSeconds: number;
}

/**
 * Checks that a bound token (RFC 7800) comes from its holder: by every method its `cnf` names, and that it names only
 * methods known here. A bound token presented as a plain Bearer token is refused.
 * @returns the proof to mark as used, if there was one
 */
export function checkBinding(
  claims: GenericClaims,
  context: BindingContext,
): UsedProof | undefined {
  const { presentation, dpop } = context;
  const { jkt, certificate } = boundTo(claims.cnf);
  if (jkt === undefined) {
    if (dpop?.required) throw bound('The token is not bound to a DPoP key, and must be');
    if (presentation?.dpop !== undefined)
      throw new JwtError('ERR_JWT_DPOP_BINDING', 'The token is not bound to a DPoP key');
  }
  if (certificate !== undefined) checkCertificate(certificate, presentation?.clientCertificate);
  if (jkt === undefined) return undefined;
  if (presentation?.dpop === undefined || dpop === undefined)
    throw bound('The token is bound to a DPoP key, and comes without a proof');
  return dpop.check(presentation.dpop, { ...context, jkt });
}

function boundTo(cnf: unknown): { readonly jkt?: string; readonly certificate?: string } {
  if (cnf === undefined) return {};
  if (typeof cnf !== 'object' || cnf === null) throw unsupported();
  const { jkt, 'x5t#S256': certificate, ...others } = cnf as Record<string, unknown>;
  if (Object.keys(others).length > 0) throw unsupported();
  if (jkt === undefined && certificate === undefined) throw unsupported();
  return { ...text('jkt', jkt), ...text('certificate', certificate) };
}

function text<N extends string>(name: N, value: unknown): { [name in N]?: string } {
  if (value === undefined) return {};
  if (typeof value !== 'string' || value === '') throw unsupported();
  return { [name]: value } as { [name in N]: string };
}

function checkCertificate(
  thumbprint: string,
  presented: Uint8Array | string | null | undefined,
): void {
  // A connection without a certificate has `null` for one in some servers.
  if (presented === undefined || presented === null || presented.length === 0)
    throw bound('The token is bound to a certificate, and comes without one');
  let actual: string;
  try {
    actual = certificateThumbprint(presented);
  } catch {
    throw new JwtError('ERR_JWT_CERTIFICATE', 'The certificate cannot be read');
  }
  if (actual !== thumbprint)
    throw new JwtError('ERR_JWT_CERTIFICATE', 'The token is bound to another certificate');
}

function bound(message: string): JwtError {
  return new JwtError('ERR_JWT_BOUND', message, { member: 'cnf' });
}

function unsupported(): JwtError {
  return bound('The token is bound in a way that is not supported');
}
