import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** A block of addresses. */
export type AddressRange = readonly [network: Address, prefixLength: number];

/** All that IANA has given out as global unicast (RFC 4291 §2.4); the rest is not in use or not on the internet. */
const GLOBAL_UNICAST_V6 = ipaddr.parseCIDR('2000::/3');
/** Azure's platform address: metadata and DNS behind an address that is public by its number. */
const AZURE_PLATFORM = ipaddr.parse('168.63.129.16');

/**
 * What an address is for: `public` (unicast on the internet), or the name of the special range it is in.
 * Anything that is no plain address, a zone identifier included, is `invalid`.
 */
export function addressKind(text: string): string {
  if (isIP(text) === 0 || text.includes('%')) return 'invalid';
  const address = parse(text);
  if (matches(address, [AZURE_PLATFORM, 32])) return 'cloudMetadata';
  const range = address.range();
  if (range !== 'unicast') return range;
  if (address.kind() === 'ipv6') {
    if (!matches(address, GLOBAL_UNICAST_V6)) return 'reserved';
    if (isIsatap(address as ipaddr.IPv6)) return 'isatap';
  }
  return 'public';
}

/** Whether an address, as text, is in one of the ranges. */
export function inRange(text: string, range: AddressRange): boolean {
  return addressKind(text) !== 'invalid' && matches(parse(text), range);
}

/**
 * The IPv4 addresses that packets to this IPv6 address may end at: mapped and compatible (RFC 4291 §2.5.5),
 * translated (RFC 6052, RFC 7915), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214).
 */
export function embeddedAddresses(text: string): readonly string[] {
  if (isIP(text) !== 6 || text.includes('%')) return [];
  const address = parse(text) as ipaddr.IPv6;
  const [, second = 0, third = 0, fourth = 0, , , seventh = 0, eighth = 0] = address.parts;
  const last = dotted(seventh, eighth);
  switch (address.range()) {
    case '6to4':
      return [dotted(second, third)];
    case 'teredo':
      return [dotted(third, fourth), dotted(seventh ^ 0xffff, eighth ^ 0xffff)];
    case 'ipv4Mapped':
    case 'rfc6145':
    case 'rfc6052':
      return [last];
    default:
      return isIsatap(address) || address.parts.slice(0, 6).every((part) => part === 0)
        ? [last]
        : [];
  }
}

/**
 * Reads `10.0.0.0/8`, `fd00::/8` or a single address. `undefined` when it is neither.
 * @throws TypeError when it is a block with bits set behind the prefix, which is a slip more often than an intention.
 */
export function parseRange(text: string): AddressRange | undefined {
  const [address = '', prefix, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || address.includes('%') || rest.length > 0) return undefined;
  const width = family === 4 ? 32 : 128;
  if (prefix === undefined) return [parse(address), width];
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > width) return undefined;
  const network = networkOf(parse(address), Number(prefix));
  if (network.toString() !== parse(address).toString()) {
    throw new TypeError(
      `"${text}" has bits set behind its prefix; ${network.toString()}/${prefix} is the block`,
    );
  }
  return [network, Number(prefix)];
}

/** ipaddr.js reads `::127.0.0.1` as `::ffff:127.0.0.1`, the network stack does not: write it without dots first. */
function parse(text: string): Address {
  return ipaddr.parse(isIP(text) === 6 ? new URL(`http://[${text}]`).hostname.slice(1, -1) : text);
}

function networkOf(address: Address, prefixLength: number): Address {
  const cidr = `${address.toString()}/${prefixLength}`;
  return address.kind() === 'ipv4'
    ? ipaddr.IPv4.networkAddressFromCIDR(cidr)
    : ipaddr.IPv6.networkAddressFromCIDR(cidr);
}

function matches(address: Address, [network, prefixLength]: AddressRange): boolean {
  return address.kind() === network.kind() && address.match(network, prefixLength);
}

function isIsatap(address: ipaddr.IPv6): boolean {
  const fifth = address.parts[4] ?? 0;
  return (fifth & 0xfdff) === 0 && address.parts[5] === 0x5efe;
}

function dotted(high: number, low: number): string {
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}
