import type { LookupFunction } from 'node:net';
import type { SecureVersion } from 'node:tls';
import { Agent, type Dispatcher, Pool, ProxyAgent } from 'undici';
import { CappedHandler } from './cap.ts';
import {
  type ConnectorOptions,
  guardedConnector,
  systemLookup,
  type TlsOptions,
} from './connector.ts';
import { type EgressPolicyOptions, egressPolicy, targetOf } from './policy.ts';
import type { Target } from './rule.ts';

/** Options of {@link egressAgent}. */
export interface EgressAgentOptions extends EgressPolicyOptions {
  /** The lowest TLS version. Default `TLSv1.2`. */
  readonly minTlsVersion?: 'TLSv1.2' | 'TLSv1.3';
  /** Certificate authorities and a client certificate. There is no way to switch verification off. */
  readonly tls?: TlsOptions;
  /** The largest response body on the wire, in bytes. Default 10 MiB (10,485,760). */
  readonly maxResponseBytes?: number;
  /** For resolving, connecting and the TLS handshake together, in milliseconds. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** From the request to the end of the response's headers, in milliseconds. Default 30,000. */
  readonly headersTimeoutMs?: number;
  /** Between two pieces of a response body, in milliseconds. Default 30,000. */
  readonly bodyTimeoutMs?: number;
  /** How long an idle connection is kept, in milliseconds. Default 4,000. */
  readonly keepAliveTimeoutMs?: number;
  /** Connections for each origin. Default: as many as there are requests at the same time. */
  readonly connections?: number;
  /** Whether HTTP/2 is used where the server offers it. Default false. */
  readonly allowH2?: boolean;
  /**
   * An `http:` or `https:` URL of a proxy to send everything through. Default none, whatever the environment says. The
   * proxy then resolves names: schemes, hosts, ports and literal addresses are still checked here, what a name resolves
   * to is the proxy's to check.
   */
  readonly proxy?: string;
  /** Resolves names, as `dns.lookup` does (with `all`). Default `dns.lookup`. */
  readonly lookup?: LookupFunction;
}

/** A longer one would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** How many origins that were found allowed are remembered; afterwards it starts anew. */
const REMEMBERED_ORIGINS = 1000;

/**
 * An undici `Agent` that only goes where it may. A request that may not leave fails with `EgressError`
 * `ERR_EGRESS_DENIED`, always, and before a single byte is sent. It follows no redirects, and takes no proxy from the
 * environment. Close it with `close()`.
 * @throws TypeError when an option is not what it must be, or there is no such option.
 */
export function egressAgent(options: EgressAgentOptions = {}): Agent {
  return new EgressAgent(options);
}

class EgressAgent extends Agent {
  readonly #policy: ReturnType<typeof egressPolicy>;
  readonly #maxResponseBytes: number;
  readonly #allowedOrigins = new Set<string>();

  constructor(options: EgressAgentOptions) {
    const policy = egressPolicy(options);
    const connector = connectorOptions(options, policy);
    const proxy = options.proxy === undefined ? undefined : proxyUrl(options.proxy);
    super({
      headersTimeout: positive(
        options.headersTimeoutMs,
        30_000,
        'headersTimeoutMs',
        LONGEST_TIMER_MS,
      ),
      bodyTimeout: positive(options.bodyTimeoutMs, 30_000, 'bodyTimeoutMs', LONGEST_TIMER_MS),
      keepAliveTimeout: positive(
        options.keepAliveTimeoutMs,
        4000,
        'keepAliveTimeoutMs',
        LONGEST_TIMER_MS,
      ),
      ...(options.connections === undefined
        ? {}
        : { connections: positive(options.connections, 1, 'connections') }),
      allowH2: connector.allowH2,
      factory: (origin, inherited) =>
        proxy
          ? proxied(proxy, connector, inherited)
          : new Pool(origin, {
              ...(inherited as Pool.Options),
              connect: guardedConnector(targetOf(new URL(origin)), connector),
            }),
    });
    this.#policy = policy;
    this.#maxResponseBytes = positive(options.maxResponseBytes, 10_485_760, 'maxResponseBytes');
  }

  override dispatch(options: Agent.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    try {
      this.#check(options.origin);
    } catch (error) {
      if (typeof handler.onResponseError !== 'function') throw error;
      // There is no connection yet and so no controller; undici's own dispatchers report such errors the same way.
      handler.onResponseError(null as unknown as Dispatcher.DispatchController, error as Error);
      return false;
    }
    return super.dispatch(options, new CappedHandler(handler, this.#maxResponseBytes));
  }

  /** Decides once per origin what does not depend on addresses. */
  #check(origin: string | URL | undefined): void {
    const key = String(origin);
    if (this.#allowedOrigins.has(key)) return;
    if (!URL.canParse(key)) return; // not ours to explain: undici refuses it
    const target: Target = targetOf(new URL(key));
    this.#policy.checkTarget(target);
    if (this.#allowedOrigins.size >= REMEMBERED_ORIGINS) this.#allowedOrigins.clear();
    this.#allowedOrigins.add(key);
  }
}

function proxied(uri: URL, connector: ConnectorOptions, inherited: object): Dispatcher {
  const { connectTimeoutMs, minTlsVersion, tls } = connector;
  const verified = { minVersion: minTlsVersion, rejectUnauthorized: true };
  return new ProxyAgent({
    ...(inherited as Agent.Options),
    uri: uri.href,
    connectTimeout: connectTimeoutMs,
    requestTls: { ...tls, ...verified },
    proxyTls: verified,
  });
}

function proxyUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new TypeError('proxy must be an http: or https: URL');
  }
  return url;
}

function connectorOptions(
  options: EgressAgentOptions,
  policy: ReturnType<typeof egressPolicy>,
): ConnectorOptions {
  const { minTlsVersion = 'TLSv1.2', tls = {}, allowH2 = false, lookup = systemLookup } = options;
  if (!(['TLSv1.2', 'TLSv1.3'] satisfies SecureVersion[]).includes(minTlsVersion)) {
    throw new TypeError("minTlsVersion must be 'TLSv1.2' or 'TLSv1.3'");
  }
  if (typeof lookup !== 'function') throw new TypeError('lookup must be a function');
  const connectTimeoutMs = positive(
    options.connectTimeoutMs,
    5000,
    'connectTimeoutMs',
    LONGEST_TIMER_MS,
  );
  return { policy, lookup, connectTimeoutMs, minTlsVersion, tls: permitted(tls), allowH2 };
}

const TLS_OPTIONS: readonly (keyof TlsOptions)[] = [
  'ca',
  'cert',
  'key',
  'passphrase',
  'pfx',
  'crl',
  'ciphers',
  'servername',
];

function permitted(tls: TlsOptions): TlsOptions {
  const unknown = Object.keys(tls).find((name) => !(TLS_OPTIONS as string[]).includes(name));
  if (unknown !== undefined) throw new TypeError(`tls.${unknown} cannot be set here`);
  return tls;
}

function positive(
  value: number | undefined,
  otherwise: number,
  name: string,
  most: number = Number.MAX_SAFE_INTEGER,
): number {
  const number = value ?? otherwise;
  if (!(Number.isInteger(number) && number > 0 && number <= most)) {
    throw new TypeError(`${name} must be a whole number from 1 to ${most}`);
  }
  return number;
}
