import { X509Certificate } from 'node:crypto';
import { expect, it } from 'vitest';
import { testCertificate } from '../src/certificate.ts';

it('is self-signed, names its hosts and is valid now', () => {
  const { cert, privateKey } = testCertificate(['auth.example.com', '127.0.0.1']);
  const parsed = new X509Certificate(cert);
  expect(parsed.verify(parsed.publicKey)).toBe(true);
  expect(parsed.checkPrivateKey(privateKey)).toBe(true);
  expect(parsed.checkHost('auth.example.com')).toBe('auth.example.com');
  expect(parsed.checkIP('127.0.0.1')).toBe('127.0.0.1');
  expect(parsed.ca).toBe(true);
  expect(Date.parse(parsed.validTo)).toBeGreaterThan(Date.now());
});
