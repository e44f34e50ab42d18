import { createHash, type KeyObject, X509Certificate } from 'node:crypto';

/**
 * SHA-256 thumbprint of a public key (RFC 7638), base64url. Computed from the key itself, not from the JWK it came in:
 * one key has one thumbprint, however it was written.
 */
export function keyThumbprint(key: KeyObject): string {
  const { crv, e, kty, n, x, y } = key.export({ format: 'jwk' });
  // The required members in this order, without the ones the key type does not have (RFC 7638 §3.2).
  return sha256(JSON.stringify({ crv, e, kty, n, x, y }));
}

/** SHA-256 thumbprint of a certificate (RFC 8705 §3.1), base64url. @param certificate - DER bytes, or PEM */
export function certificateThumbprint(certificate: Uint8Array | string): string {
  return sha256(
    typeof certificate === 'string' ? new X509Certificate(certificate).raw : certificate,
  );
}

/** SHA-256, base64url. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('base64url');
}
