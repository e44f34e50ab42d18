import dns from 'node:dns';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import type { ConnectionOptions, SecureVersion } from 'node:tls';
import { buildConnector } from 'undici';
import { denied, type EgressPolicy } from './policy.ts';
import type { Target } from './rule.ts';

/** What a TLS connection may be given: own authorities and a client certificate, but no way around the checks. */
export type TlsOptions = Pick<
  ConnectionOptions,
  'ca' | 'cert' | 'key' | 'passphrase' | 'pfx' | 'crl' | 'ciphers' | 'servername'
>;

/** How connections are made. */
export interface ConnectorOptions {
  readonly policy: EgressPolicy;
  readonly lookup: LookupFunction;
  readonly connectTimeoutMs: number;
  readonly minTlsVersion: SecureVersion;
  readonly tls: TlsOptions;
  readonly allowH2: boolean;
}

/**
 * A connector for one origin. Every address that its name resolves to is checked, and the socket is given those very
 * addresses, so that a second answer of the resolver cannot matter. An address as host is not resolved by Node.js, so
 * it is checked beside the look-up; the peer that was really reached is checked once more.
 */
export function guardedConnector(
  target: Target,
  options: ConnectorOptions,
): buildConnector.connector {
  const { policy, connectTimeoutMs, minTlsVersion, tls, allowH2 } = options;
  const connect = buildConnector({
    ...tls,
    timeout: connectTimeoutMs,
    minVersion: minTlsVersion,
    // Said out loud, so that NODE_TLS_REJECT_UNAUTHORIZED=0 in the environment does not undo it.
    rejectUnauthorized: true,
    allowH2,
    lookup: checkedLookup(target, policy, options.lookup),
  });
  return (request, callback) => {
    try {
      policy.checkTarget(target);
    } catch (error) {
      callback(error as Error, null);
      return;
    }
    connect(request, (error, socket) => {
      if (error || !socket) {
        callback(error ?? new TypeError('no socket'), null);
        return;
      }
      try {
        policy.checkAddress(target, peerOf(socket));
      } catch (refusal) {
        socket.destroy();
        callback(refusal as Error, null);
        return;
      }
      callback(null, socket);
    });
  };
}

/** Nobody, when the peer has broken the connection meanwhile: that is no refusal of ours. */
function peerOf({ remoteAddress }: Socket): string {
  if (remoteAddress !== undefined) return remoteAddress;
  throw Object.assign(new Error('the peer closed the connection'), { code: 'ECONNRESET' });
}

/** Resolves, and answers only when every address is allowed: one bad address among good ones is an attack, not luck. */
function checkedLookup(
  target: Target,
  policy: EgressPolicy,
  lookup: LookupFunction,
): LookupFunction {
  return (hostname, lookupOptions, callback) => {
    lookup(hostname, { ...lookupOptions, all: true }, (error, answer) => {
      if (error) {
        callback(error, '', 0);
        return;
      }
      try {
        const addresses = copied(answer);
        if (addresses.length === 0) throw denied(target, 'it resolves to nothing');
        for (const { address } of addresses) policy.checkAddress(target, address);
        if (lookupOptions.all) callback(null, addresses);
        else callback(null, addresses[0]?.address ?? '', addresses[0]?.family);
      } catch (refusal) {
        callback(refusal as Error, '', 0);
      }
    });
  };
}

/** What was checked must be what is used: the resolver keeps no hand on it. */
function copied(answer: string | readonly dns.LookupAddress[]): dns.LookupAddress[] {
  const addresses = typeof answer === 'string' ? [answer] : answer.map(({ address }) => address);
  return addresses.map((address) => ({ address: String(address), family: isIP(address) }));
}

/** The system's resolver, `/etc/hosts` included. */
export const systemLookup: LookupFunction = dns.lookup as LookupFunction;
