import {
  type AddressRange,
  addressKind,
  embeddedAddresses,
  inRange,
  parseRange,
} from './address.ts';

/** Where a request wants to go. */
export interface Target {
  readonly scheme: 'http' | 'https';
  /** Lower case, without brackets and without a trailing dot. */
  readonly host: string;
  readonly port: number;
}

/** One entry of `allow` or `deny`. */
export interface Rule {
  /** `undefined`: either. */
  readonly scheme: 'http' | 'https' | undefined;
  /** `undefined`: any. */
  readonly port: number | undefined;
  readonly what:
    | { readonly kind: 'public' }
    | { readonly kind: 'range'; readonly range: AddressRange }
    | { readonly kind: 'name'; readonly name: string }
    | { readonly kind: 'subdomains'; readonly suffix: string };
}

const SYNTAX =
  "expected [http:// or https://] 'public', a host, '*.domain', an address or a CIDR block [:port or :*]";

/**
 * Reads an entry: `api.example.com`, `*.example.com:8443`, `10.0.0.0/8`, `[fd00::/8]:443`, `http://127.0.0.1:*`, `public`.
 * @throws TypeError when it is not one.
 */
export function parseRule(text: string, option: string): Rule {
  const fail = (): never => {
    throw new TypeError(`${option}: "${text}" is not an entry; ${SYNTAX}`);
  };
  if (typeof text !== 'string') return fail();
  const [, scheme, rest = ''] = /^(?:(https?):\/\/)?(.*)$/is.exec(text) ?? [];
  const [host, port] = splitPort(rest);
  if (host === '' || /[\s@?#\\]/.test(host)) return fail();
  if (port !== undefined && !isPort(port)) return fail();
  return {
    scheme: scheme?.toLowerCase() as Rule['scheme'],
    port: port === undefined || port === '*' ? undefined : Number(port),
    what: subject(host) ?? fail(),
  };
}

/** Whether a rule is about this scheme and this port. */
export function concerns(rule: Rule, target: Target): boolean {
  return (
    (rule.scheme === undefined || rule.scheme === target.scheme) &&
    (rule.port === undefined || rule.port === target.port)
  );
}

/** Whether a rule names this host. */
export function namesHost({ what }: Rule, host: string): boolean {
  if (what.kind === 'name') return host === what.name;
  return what.kind === 'subdomains' && host.endsWith(what.suffix);
}

/** Whether a rule covers this address. */
export function coversAddress({ what }: Rule, address: string): boolean {
  if (what.kind === 'public') return addressKind(address) === 'public';
  return what.kind === 'range' && inRange(address, what.range);
}

/** Whether a rule covers this address or one that is hidden in it. */
export function touchesAddress(rule: Rule, address: string): boolean {
  return [address, ...embeddedAddresses(address)].some((each) => coversAddress(rule, each));
}

function splitPort(text: string): readonly [host: string, port: string | undefined] {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/s.exec(text);
  if (bracketed) return [bracketed[1] ?? '', bracketed[2]];
  const colons = text.split(':').length - 1;
  // More than one colon without brackets: an IPv6 address or block, without a port.
  if (colons !== 1) return [text, undefined];
  const colon = text.indexOf(':');
  return [text.slice(0, colon), text.slice(colon + 1)];
}

function isPort(text: string): boolean {
  return text === '*' || (/^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535);
}

function subject(text: string): Rule['what'] | undefined {
  if (text === 'public') return { kind: 'public' };
  const range = parseRange(text);
  if (range) return { kind: 'range', range };
  const subdomains = text.startsWith('*.');
  const name = canonicalName(subdomains ? text.slice(2) : text);
  if (!name) return undefined;
  if (subdomains) return { kind: 'subdomains', suffix: `.${name}` };
  const literal = parseRange(name);
  return literal ? { kind: 'range', range: literal } : { kind: 'name', name };
}

/** As the URL parser writes it: lower case, punycode, IPv4 as four decimal numbers. */
function canonicalName(text: string): string | undefined {
  if (/[*/:%]/.test(text) || !URL.canParse(`https://${text}/`)) return undefined;
  return new URL(`https://${text}/`).hostname.replace(/\.$/, '') || undefined;
}
