import { isIP } from 'node:net';
import { assertKnown, type OptionNames } from '@countersign/options';
import ipaddr from 'ipaddr.js';

/** IPv6 addresses that a translator makes of IPv4 ones, in their last four bytes: RFC 6052 §2.1, RFC 7915 §3.3. */
const translated = ['64:ff9b::/96', '::ffff:0:0:0/96'].map((range) => ipaddr.IPv6.parseCIDR(range));

export interface AddressKeyOptions {
  /** How much of an IPv6 address counts as one subject, in bits: 1 to 128. Default 56, what a household or a small network is given. */
  readonly ipv6PrefixLength?: number;
}

const known: OptionNames<AddressKeyOptions> = { ipv6PrefixLength: true };

/**
 * The subject for a client's address. An IPv6 address stands for its network, because whoever has one has billions; an IPv4
 * address inside an IPv6 one is taken out. What is no address at all is one subject together.
 */
export function addressKey(address: string, options: AddressKeyOptions = {}): string {
  assertKnown(options, known);
  const { ipv6PrefixLength = 56 } = options;
  if (!Number.isInteger(ipv6PrefixLength) || ipv6PrefixLength < 1 || ipv6PrefixLength > 128)
    throw new TypeError('ipv6PrefixLength: expected an integer from 1 to 128');
  if (isIP(address) === 0) return 'ip:unknown';
  // Without its zone (`%eth0`), which only the host it was written on understands.
  const parsed = ipaddr.process(address.replace(/%.*$/, ''));
  if (parsed instanceof ipaddr.IPv4) return `ip:${parsed.toString()}`;
  if (translated.some(([range, bits]) => parsed.match(range, bits)))
    return `ip:${parsed.toByteArray().slice(-4).join('.')}`;
  const network = ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toString()}/${ipv6PrefixLength}`);
  return `ip:${network.toString()}/${ipv6PrefixLength}`;
}
