/**
 * Writes an ECDSA signature of JWS, `r` and `s` side by side (RFC 7518 §3.4), as the DER that OpenSSL reads. Node can do
 * that, too (`dsaEncoding`), but takes a third longer for the whole check when asked to.
 */
export function derSignature(signature: Buffer): Buffer {
  const half = signature.length / 2;
  const r = integerSpan(signature, 0, half);
  const s = integerSpan(signature, half, signature.length);
  const length = 2 + r.length + (2 + s.length);
  const long = length > 127 ? 1 : 0;
  const der = Buffer.alloc(2 + long + length);
  der[0] = SEQUENCE;
  if (long) der[1] = LENGTH_IN_ONE_BYTE;
  der[1 + long] = length;
  const next = writeInteger(der, 2 + long, signature, r);
  writeInteger(der, next, signature, s);
  return der;
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const LENGTH_IN_ONE_BYTE = 0x81;

/** The bytes of a number without leading zeros, and how many DER needs for it. */
interface IntegerSpan {
  readonly start: number;
  readonly end: number;
  readonly length: number;
}

function integerSpan(bytes: Buffer, from: number, end: number): IntegerSpan {
  let start = from;
  while (start < end - 1 && bytes[start] === 0) start += 1;
  // A set first bit would mean a negative number; a zero goes before it.
  const sign = (bytes[start] ?? 0) > 127 ? 1 : 0;
  return { start, end, length: end - start + sign };
}

function writeInteger(der: Buffer, at: number, bytes: Buffer, span: IntegerSpan): number {
  der[at] = INTEGER;
  der[at + 1] = span.length;
  const end = at + 2 + span.length;
  bytes.copy(der, end - (span.end - span.start), span.start, span.end);
  return end;
}
