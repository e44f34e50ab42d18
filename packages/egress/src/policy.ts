import { isIP } from 'node:net';
import { assertKnown } from '@countersign/options';
import { addressKind } from './address.ts';
import { EgressError } from './errors.ts';
import { deniedChannel, type EgressDenied } from './events.ts';
import { optionNames } from './option-names.ts';
import {
  concerns,
  coversAddress,
  namesHost,
  parseRule,
  type Rule,
  type Target,
  touchesAddress,
} from './rule.ts';

/** Where requests may go. */
export interface EgressPolicyOptions {
  /**
   * All that may be reached; default `['public']`, every address that is unicast on the internet. An entry is
   * `[http:// or https://]` + `public`, a host (`api.example.com`), all hosts below a domain (`*.example.com`, not the
   * domain itself), an address or a CIDR block (`10.0.0.0/8`, `fd00::/8`) + `[:port or :*]`. Without a port it is for
   * every port; without a scheme for https alone (for both when `httpsOnly` is false).
   *
   * A host that is named here may be resolved, but the addresses it resolves to must be public or covered by an entry
   * themselves: `['billing.internal', '10.0.0.0/8']`.
   */
  readonly allow?: readonly string[];
  /** What may not be reached although `allow` says so. Entries as in `allow`; without a scheme for both. */
  readonly deny?: readonly string[];
  /** Whether plain http needs an entry that begins with `http://`. Default true. */
  readonly httpsOnly?: boolean;
}

/** The rules, ready to be asked. */
export interface EgressPolicy {
  /** What can be decided before a name is resolved. @throws EgressError `ERR_EGRESS_DENIED` */
  checkTarget(target: Target): void;
  /** Decides about an address of the target. @throws EgressError `ERR_EGRESS_DENIED` */
  checkAddress(target: Target, address: string): void;
}

/**
 * Checks a URL before it is stored or used: its scheme, host, port and, where the host is an address, the address.
 * A name is **not** resolved here: what it resolves to is decided each time `egressAgent` connects.
 * @param options - those of `egressAgent` will do: what is not about where requests may go is left alone.
 * @throws EgressError `ERR_EGRESS_DENIED` when no request may go there, or it is no URL, or it carries credentials.
 * @throws TypeError when an option is not what it must be, or there is no such option.
 */
export function assertAllowed(url: string | URL, options: EgressPolicyOptions = {}): void {
  const policy = egressPolicy(options);
  if (!URL.canParse(String(url))) throw new EgressError('ERR_EGRESS_DENIED', 'this is not a URL');
  const parsed = new URL(String(url));
  const target = targetOf(parsed);
  if (parsed.username || parsed.password) {
    throw denied(target, 'a URL must not carry credentials');
  }
  policy.checkTarget(target);
}

/** Compiles the rules. @throws TypeError when an option is not what it must be. */
export function egressPolicy(options: EgressPolicyOptions): EgressPolicy {
  assertKnown(options, optionNames);
  const { allow = ['public'], deny = [], httpsOnly = true } = options;
  if (!Array.isArray(allow)) throw new TypeError('allow must be an array of strings');
  if (!Array.isArray(deny)) throw new TypeError('deny must be an array of strings');
  if (typeof httpsOnly !== 'boolean') throw new TypeError('httpsOnly must be a boolean');
  const allowed = allow
    .map((text) => parseRule(text, 'allow'))
    .map((rule): Rule => (rule.scheme || !httpsOnly ? rule : { ...rule, scheme: 'https' }));
  const refused = deny.map((text) => parseRule(text, 'deny'));

  function checkTarget(target: Target): void {
    if (isIP(target.host)) {
      checkAddress(target, target.host);
      return;
    }
    if (refused.some((rule) => concerns(rule, target) && namesHost(rule, target.host))) {
      throw denied(target, 'a deny entry names the host');
    }
    const open = allowed.filter((rule) => concerns(rule, target));
    if (open.length === 0) {
      throw denied(target, 'no allow entry is for this scheme and port');
    }
    // A name that no entry can ever cover is not even resolved: a look-up is a message to whoever runs the domain.
    if (!open.some((rule) => namesHost(rule, target.host) || isAboutAddresses(rule))) {
      throw denied(target, 'no allow entry names the host');
    }
    if (isThisMachine(target.host) && !open.some((rule) => coversLoopback(rule, target.host))) {
      throw denied(target, 'no allow entry covers the loopback addresses that the host stands for');
    }
  }

  function checkAddress(target: Target, address: string): void {
    const kind = addressKind(address);
    if (kind === 'invalid') throw denied(target, 'it resolves to something that is no address');
    if (refused.some((rule) => concerns(rule, target) && touchesAddress(rule, address))) {
      throw denied(target, `a deny entry covers the address ${address}`, address);
    }
    const open = allowed.filter((rule) => concerns(rule, target));
    const named = open.some((rule) => namesHost(rule, target.host));
    if (open.some((rule) => coversAddress(rule, address)) || (named && kind === 'public')) return;
    throw denied(target, `no allow entry covers the address ${address} (${kind})`, address);
  }

  return { checkTarget, checkAddress };
}

/** @throws EgressError when the scheme is neither http nor https. */
export function targetOf(url: URL): Target {
  const scheme = url.protocol.slice(0, -1);
  if (scheme !== 'http' && scheme !== 'https') {
    throw refusal(`${scheme}://${url.host}`, `refused: ${scheme} is neither http nor https`);
  }
  return {
    scheme,
    host: url.hostname.replace(/^\[|\]$|\.+$/g, ''),
    port: url.port === '' ? (scheme === 'https' ? 443 : 80) : Number(url.port),
  };
}

/** Names that stand for loopback wherever they are resolved, by a proxy too (RFC 6761 §6.3). */
function isThisMachine(host: string): boolean {
  return /(?:^|\.)localhost$/.test(host);
}

function coversLoopback(rule: Rule, host: string): boolean {
  return (
    ['127.0.0.1', '::1'].some((address) => coversAddress(rule, address)) || namesHost(rule, host)
  );
}

function isAboutAddresses({ what }: Rule): boolean {
  return what.kind === 'public' || what.kind === 'range';
}

export function denied({ scheme, host, port }: Target, why: string, address?: string): EgressError {
  const origin = `${scheme}://${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  return refusal(origin, `refused ${origin}: ${why}`, address);
}

function refusal(origin: string, reason: string, address?: string): EgressError {
  if (deniedChannel.hasSubscribers) {
    const event: EgressDenied = { origin, reason, ...(address === undefined ? {} : { address }) };
    deniedChannel.publish(event);
  }
  return new EgressError('ERR_EGRESS_DENIED', reason);
}
