import ipaddr from 'ipaddr.js';

type Address = ReturnType<typeof ipaddr.process>;
type Range = readonly [Address, number];

// The record of a cached key is checked many times: its ranges are parsed once and go away with it.
const parsed = new WeakMap<readonly string[], readonly Range[]>();

/** Whether the text is an address or a CIDR range (`192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`). */
export function isAddressRange(text: unknown): text is string {
  return typeof text === 'string' && text.length <= 64 && parseRange(text) !== undefined;
}

/** Whether the address lies in one of the ranges. IPv4 in IPv6 clothing (`::ffff:192.0.2.7`) counts as IPv4. */
export function allowsAddress(allowlist: readonly string[], ip: string): boolean {
  if (!isUnambiguous(ip)) return false;
  const address = ipaddr.process(ip);
  return rangesOf(allowlist).some(
    ([base, bits]) => base.kind() === address.kind() && address.match(base, bits),
  );
}

function rangesOf(allowlist: readonly string[]): readonly Range[] {
  let ranges = parsed.get(allowlist);
  if (!ranges) {
    ranges = allowlist.map(parseRange).filter((range) => range !== undefined);
    parsed.set(allowlist, ranges);
  }
  return ranges;
}

function parseRange(text: string): Range | undefined {
  const [address = '', bits, ...rest] = text.split('/');
  if (rest.length > 0 || !isUnambiguous(address)) return undefined;
  const base = ipaddr.parse(address);
  const width = base.kind() === 'ipv4' ? 32 : 128;
  if (bits === undefined) return normalized(base, width);
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > width) return undefined;
  return normalized(base, Number(bits));
}

// `010.0.0.1` is octal to some and decimal to others, `10.1` is `10.0.0.1`, and `::10.0.0.1` is read as `::ffff:10.0.0.1` by
// ipaddr.js, though it is another address (RFC 4291 §2.5.5.1): none of them belongs in a security check.
function isUnambiguous(address: string): boolean {
  const last = address.slice(address.lastIndexOf(':') + 1);
  const misread = address === `::${last}` || !ipaddr.IPv4.isValidFourPartDecimal(last);
  if (last.includes('.') && misread) return false;
  return address.includes(':')
    ? ipaddr.IPv6.isValid(address)
    : ipaddr.IPv4.isValidFourPartDecimal(address);
}

function normalized(base: ipaddr.IPv4 | ipaddr.IPv6, bits: number): Range | undefined {
  if (base instanceof ipaddr.IPv6 && base.isIPv4MappedAddress()) {
    return bits < 96 ? undefined : [base.toIPv4Address(), bits - 96];
  }
  return [base, bits];
}
