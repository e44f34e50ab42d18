import ipaddr from 'ipaddr.js';

export interface AddressKeyOptions {
  /** How much of an IPv6 address counts as one subject, in bits: 1 to 128. Default 56, what a household or a small network is given. */
  readonly ipv6PrefixLength?: number;
}

/**
 * The subject for a client's address. An IPv6 address stands for its network, because whoever has one has billions; an IPv4
 * address inside an IPv6 one is taken out. What is no address at all is one subject together.
 */
export function addressKey(
  address: string,
  { ipv6PrefixLength = 56 }: AddressKeyOptions = {},
): string {
  if (!Number.isInteger(ipv6PrefixLength) || ipv6PrefixLength < 1 || ipv6PrefixLength > 128)
    throw new TypeError('ipv6PrefixLength: expected an integer from 1 to 128');
  if (!ipaddr.isValid(address)) return 'ip:unknown';
  const parsed = ipaddr.process(address);
  if (parsed.kind() === 'ipv4') return `ip:${parsed.toString()}`;
  const network = ipaddr.IPv6.networkAddressFromCIDR(`${bare(parsed)}/${ipv6PrefixLength}`);
  return `ip:${network.toString()}/${ipv6PrefixLength}`;
}

/** Without its zone (`%eth0`), which only the host it was written on understands. */
function bare(address: ipaddr.IPv4 | ipaddr.IPv6): string {
  return address.toNormalizedString().replace(/%.*$/, '');
}
