import { BlockList, isIP, isIPv6 } from 'node:net';

/** Whether an address is a proxy whose word counts. */
export type Trust = (address: string) => boolean;

/**
 * @param ranges - addresses (`10.1.2.3`) and CIDR ranges (`10.0.0.0/8`, `fd00::/8`).
 * @throws TypeError for anything else.
 */
export function trustOf(ranges: readonly string[]): Trust {
  if (ranges.length === 0) return () => false;
  const list = new BlockList();
  for (const range of ranges) add(list, range);
  return (address) => isIP(address) !== 0 && list.check(address, familyOf(address));
}

/**
 * The caller's address: the peer's own, or, while that is a trusted proxy's, the one it says it received the request
 * from, read from the right of `X-Forwarded-For`. What stands left of the first untrusted address is the caller's own
 * invention.
 */
export function callerAddress(
  peer: string,
  forwardedFor: readonly string[],
  trusts: Trust,
): string {
  let address = normalize(peer);
  const hops = forwardedFor.join(',').split(',');
  while (trusts(address)) {
    const hop = hops.pop();
    const next = hop === undefined ? undefined : addressOf(hop.trim());
    if (next === undefined) return address;
    address = next;
  }
  return address;
}

/** `::ffff:10.0.0.1` is 10.0.0.1, whatever socket it came in on; a zone (`%eth0`) says nothing about the address. */
export function normalize(address: string): string {
  const bare = address.replace(/%.*$/, '');
  const mapped = /^::ffff:(?<v4>\d+\.\d+\.\d+\.\d+)$/i.exec(bare)?.groups?.['v4'];
  return mapped ?? bare;
}

/** Some proxies write a port behind it: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
function addressOf(hop: string): string | undefined {
  const bare =
    /^\[(?<v6>[^\]]+)\](?::\d+)?$/.exec(hop)?.groups?.['v6'] ??
    /^(?<v4>\d+\.\d+\.\d+\.\d+):\d+$/.exec(hop)?.groups?.['v4'] ??
    hop;
  return isIP(bare) === 0 ? undefined : normalize(bare);
}

function add(list: BlockList, range: string): void {
  const [address = '', prefix, rest] = range.split('/');
  const bits = prefix === undefined ? undefined : Number(prefix);
  const valid =
    isIP(address) !== 0 &&
    rest === undefined &&
    (prefix === undefined || (/^\d{1,3}$/.test(prefix) && Number(prefix) <= widthOf(address)));
  if (!valid) {
    throw new TypeError(
      `trustedProxies: expected an address or a CIDR range such as 10.0.0.0/8, got "${range}"`,
    );
  }
  if (bits === undefined) list.addAddress(normalize(address), familyOf(normalize(address)));
  else list.addSubnet(address, bits, familyOf(address));
}

function widthOf(address: string): number {
  return isIPv6(address) ? 128 : 32;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv6(address) ? 'ipv6' : 'ipv4';
}
