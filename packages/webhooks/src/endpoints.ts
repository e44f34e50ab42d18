import { randomBytes, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { peer } from './attempter.ts';
import { customHeaders, webhookUrl } from './endpoint.ts';
import type { Endpoint, EndpointStore } from './endpoint-store.ts';
import { WebhookError } from './errors.ts';
import { generateSecret, importStandardSecret } from './secret.ts';

/** What can be chosen about an endpoint. */
export interface EndpointSettings {
  readonly url: string;
  /** Default `['*']`. */
  readonly types?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly fifo?: boolean;
  readonly concurrency?: number;
  readonly maxPerSecond?: number;
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string };
}

export interface EndpointsOptions {
  readonly store: EndpointStore;
  /** Throws for a URL that may not be called. Default: `assertAllowed` of `@countersign/egress`: public HTTPS only. */
  readonly assertAllowed?: (url: string) => void;
  /** The clock, in milliseconds since the epoch. Default `Date.now`. */
  readonly now?: () => number;
}

export interface Endpoints {
  /** `secret`: a `whsec_` or `whsk_` of yours. Default: a new `whsec_`, to be read from the result. */
  create(
    settings: EndpointSettings & { readonly id?: string; readonly secret?: string },
  ): Promise<Endpoint>;
  /** Changes what is given. @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`. */
  update(id: string, settings: Partial<EndpointSettings>): Promise<Endpoint>;
  /** A new secret; the one before signs along for `overlapMs` (default 24 hours), then is forgotten. */
  rotateSecret(
    id: string,
    options?: { readonly secret?: string; readonly overlapMs?: number },
  ): Promise<Endpoint>;
  remove(id: string): Promise<boolean>;
  get(id: string): Promise<Endpoint | undefined>;
  list(): Promise<readonly Endpoint[]>;
}

const DAY_MS = 86_400_000;
const ID = /^[A-Za-z0-9_-]{1,64}$/;
const FILTER = /^(?:\*|[!-)+-~]{1,254}(?:\.\*)?)$/;

/** Manages endpoints: every change is checked before it is stored. */
export function createEndpoints({
  store,
  now = Date.now,
  assertAllowed,
}: EndpointsOptions): Endpoints {
  const check = async (endpoint: Endpoint): Promise<Endpoint> => {
    webhookUrl(endpoint.url);
    try {
      (assertAllowed ?? (await egressRule()))(endpoint.url);
    } catch (cause) {
      throw invalid('the url may not be called', { cause });
    }
    customHeaders(endpoint.headers ?? {});
    validate(endpoint);
    if (endpoint.tls !== undefined) checkClientCertificate(endpoint.tls);
    return endpoint;
  };
  const existing = async (id: string): Promise<Endpoint> => {
    const endpoint = await store.get(id);
    if (endpoint) return endpoint;
    throw new WebhookError('ERR_WEBHOOKS_ENDPOINT_UNKNOWN', `there is no endpoint ${id}`);
  };
  const put = async (endpoint: Endpoint): Promise<Endpoint> => {
    await store.put(await check(endpoint));
    return endpoint;
  };

  return {
    async create({ id = `ep_${randomBytes(12).toString('base64url')}`, secret, ...settings }) {
      const secrets = [{ secret: checkedSecret(secret ?? generateSecret()) }];
      if (await store.get(id)) throw invalid(`there is an endpoint ${id} already`);
      return await put({ types: ['*'], ...known(settings), id, secrets, createdAtMs: now() });
    },
    async update(id, settings) {
      const before = await existing(id);
      // Settings may come from a request: what else they hold must not change whose endpoint it is, nor its secrets.
      const { secrets, createdAtMs } = before;
      return await put({ ...before, ...known(settings), id, secrets, createdAtMs });
    },
    async rotateSecret(id, { secret = generateSecret(), overlapMs = DAY_MS } = {}) {
      if (!(overlapMs >= 0)) throw new TypeError('overlapMs must be a number of milliseconds');
      const endpoint = await existing(id);
      const kept = endpoint.secrets
        .map((old) => ({
          ...old,
          expiresAtMs: Math.min(old.expiresAtMs ?? Infinity, now() + overlapMs),
        }))
        .filter(({ expiresAtMs }) => expiresAtMs > now());
      return await put({ ...endpoint, secrets: [{ secret: checkedSecret(secret) }, ...kept] });
    },
    remove: async (id) => await store.delete(id),
    get: async (id) => await store.get(id),
    list: async () => await store.list(),
  };
}

/** The secrets that sign now. */
export function activeSecrets(endpoint: Endpoint, nowMs: number): readonly string[] {
  return endpoint.secrets
    .filter(({ expiresAtMs = Infinity }) => expiresAtMs > nowMs)
    .map(({ secret }) => secret);
}

const SETTINGS = ['url', 'types', 'headers', 'fifo', 'concurrency', 'maxPerSecond', 'tls'] as const;

/** Settings may come from a request: what else they hold is not stored. */
function known<T extends Partial<EndpointSettings>>(settings: T): Pick<T, keyof EndpointSettings> {
  const entries = SETTINGS.filter((name) => Object.hasOwn(settings, name)).map(
    (name) => [name, settings[name]] as const,
  );
  return Object.fromEntries(entries) as Pick<T, keyof EndpointSettings>;
}

function validate({ id, types, fifo, concurrency, maxPerSecond, secrets }: Endpoint): void {
  if (!ID.test(id)) throw invalid('id must be 1 to 64 letters, digits, _ and -');
  const isFilter = (type: unknown): boolean => typeof type === 'string' && FILTER.test(type);
  if (!Array.isArray(types) || types.length === 0 || types.length > 100 || !types.every(isFilter)) {
    throw invalid(
      "types must hold 1 to 100 event types, such as 'invoice.paid', 'invoice.*' or '*'",
    );
  }
  if (fifo !== undefined && typeof fifo !== 'boolean') throw invalid('fifo must be true or false');
  const isCount =
    Number.isInteger(concurrency) && (concurrency ?? 0) >= 1 && (concurrency ?? 0) <= 1000;
  if (concurrency !== undefined && !isCount) {
    throw invalid('concurrency must be a whole number from 1 to 1,000');
  }
  if (maxPerSecond !== undefined && !(maxPerSecond > 0 && maxPerSecond <= 1e6)) {
    throw invalid('maxPerSecond must be a number above 0');
  }
  if (secrets.length > 16) throw invalid('more than 16 secrets would sign: wait for the overlap');
}

function checkClientCertificate(tls: NonNullable<Endpoint['tls']>): void {
  // Anything else would reach the connection's options, such as `rejectUnauthorized`.
  const isPem = ([name, value]: readonly [string, unknown]): boolean =>
    ['cert', 'key', 'ca'].includes(name) && (typeof value === 'string' || value === undefined);
  if (typeof tls !== 'object' || tls === null || !Object.entries(tls).every(isPem)) {
    throw invalid('tls must hold cert, key and ca, in PEM, and nothing else');
  }
  const { cert, key, ca } = tls;
  if (!cert || !key) throw invalid('tls must hold a certificate and its key, in PEM');
  try {
    createSecureContext({ cert, key });
    // A context takes anything for authorities, and then trusts none.
    if (ca !== undefined) new X509Certificate(ca);
  } catch (cause) {
    throw invalid('tls must hold a certificate and its key, and certificates as ca, in PEM', {
      cause,
    });
  }
}

function checkedSecret(secret: string): string {
  try {
    importStandardSecret(secret, 'sign');
    return secret;
  } catch (cause) {
    throw invalid('the secret cannot sign', { cause });
  }
}

async function egressRule(): Promise<(url: string) => void> {
  const { assertAllowed } = await peer('@countersign/egress', () => import('@countersign/egress'));
  return assertAllowed;
}

function invalid(message: string, options?: ErrorOptions): WebhookError {
  return new WebhookError('ERR_WEBHOOKS_ENDPOINT_INVALID', message, options);
}
