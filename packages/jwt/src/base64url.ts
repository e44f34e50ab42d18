import { JwtError } from './errors.ts';

/**
 * Decodes base64url (RFC 7515 §2) to bytes, accepting only the one canonical text of those bytes.
 * Node's decoder skips whitespace, takes `+`, `/` and `=`, and drops stray trailing bits; two texts of one token would
 * slip past everything that compares texts. Encoding the result again and comparing rules all of it out at once.
 */
export function decodeBase64url(text: string): Buffer {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') !== text) {
    throw new JwtError('ERR_JWT_ENCODING', 'A part of the token is not canonical base64url');
  }
  return bytes;
}
