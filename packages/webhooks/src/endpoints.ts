import { randomBytes, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { assertKnown, type OptionNames } from '@countersign/options';
import { peer } from './attempter.ts';
import { customHeaders, webhookUrl } from './endpoint.ts';
import type { Endpoint, EndpointChanges, EndpointStore } from './endpoint-store.ts';
import { WebhookError } from './errors.ts';
import { assertWhole } from './range.ts';
import { generateKeyPair, generateSecret, importStandardSecret } from './secret.ts';

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

const optionNames: OptionNames<EndpointsOptions> = { store: true, assertAllowed: true, now: true };

export interface Endpoints {
  /** `secret`: a `whsec_` or `whsk_` of yours. Default: a new `whsec_`, to be read from the result. */
  create(
    settings: EndpointSettings & { readonly id?: string; readonly secret?: string },
  ): Promise<Endpoint>;
  /**
   * Changes what is given, in one step: of two changes at the same time both are made.
   * @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`, or `ERR_WEBHOOKS_ENDPOINT_INVALID`.
   */
  update(id: string, settings: EndpointChanges): Promise<Endpoint>;
  /**
   * A new secret, in one step; those before sign along for `overlapMs` (default 24 hours), then are forgotten. Default: a new
   * one of the same kind, `whsec_` or `whsk_`, to be read from the result. When the store fails without saying whether it was
   * done, `get` tells.
   * @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`, or `ERR_WEBHOOKS_ENDPOINT_INVALID`: it cannot sign, or more than 16 would.
   */
  rotateSecret(
    id: string,
    options?: { readonly secret?: string; readonly overlapMs?: number },
  ): Promise<Endpoint>;
  remove(id: string): Promise<boolean>;
  get(id: string): Promise<Endpoint | undefined>;
  list(): Promise<readonly Endpoint[]>;
}

const DAY_MS = 86_400_000;
const MAX_URL = 4096;
const ID = /^[A-Za-z0-9_-]{1,64}$/;
const FILTER = /^(?:\*|[!-)+-~]{1,254}(?:\.\*)?)$/;

/** Manages endpoints: every change is checked before it is stored. */
export function createEndpoints(options: EndpointsOptions): Endpoints {
  assertKnown(options, optionNames);
  const { store, now = Date.now, assertAllowed } = options;
  async function check(settings: EndpointChanges): Promise<void> {
    if (Object.hasOwn(settings, 'url')) {
      // Anything else than text has no URL either.
      const url = String(settings.url);
      if (url.length > MAX_URL) throw invalid('url must have up to 4,096 characters');
      webhookUrl(url);
      try {
        (assertAllowed ?? (await egressRule()))(url);
      } catch (cause) {
        throw invalid('the url may not be called', { cause });
      }
    }
    validate(settings);
    if (settings.tls !== undefined) checkClientCertificate(settings.tls);
  }
  const unknown = (id: string): WebhookError =>
    new WebhookError('ERR_WEBHOOKS_ENDPOINT_UNKNOWN', `there is no endpoint ${id}`);
  /** A receiver that verifies with a public key could do nothing with a `whsec_`. */
  const anotherFor = async (id: string): Promise<string> => {
    const endpoint = await store.get(id);
    const isPair = endpoint?.secrets[0]?.secret.startsWith('whsk_') ?? false;
    return isPair ? generateKeyPair().privateKey : generateSecret();
  };

  return {
    async create({ id = `ep_${randomBytes(12).toString('base64url')}`, secret, ...settings }) {
      if (typeof id !== 'string' || !ID.test(id))
        throw invalid('id must be 1 to 64 letters, digits, _ and -');
      const secrets = [{ secret: checkedSecret(secret ?? generateSecret()) }];
      const chosen = { types: ['*'], ...known(settings) };
      await check({ ...chosen, url: settings.url });
      const endpoint: Endpoint = { ...chosen, id, secrets, createdAtMs: now() };
      if (await store.create(endpoint)) return endpoint;
      throw invalid(`there is an endpoint ${id} already`);
    },
    async update(id, settings) {
      // Settings may come from a request: what else they hold must not change whose endpoint it is, nor its secrets.
      const changes = known(settings);
      await check(changes);
      const endpoint = await store.update(id, changes);
      if (!endpoint) throw unknown(id);
      return endpoint;
    },
    async rotateSecret(id, { secret, overlapMs = DAY_MS } = {}) {
      assertWhole('overlapMs', overlapMs, 0, 3650 * DAY_MS);
      const next = secret === undefined ? await anotherFor(id) : checkedSecret(secret);
      const atMs = now();
      const rotation = { secret: next, atMs, overlapEndsAtMs: atMs + overlapMs };
      const outcome = await store.rotateSecret(id, rotation);
      if (outcome.status === 'not_found') throw unknown(id);
      if (outcome.status === 'rotated') return outcome.endpoint;
      throw invalid('more than 16 secrets would sign: wait for the overlap');
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
function known<T extends EndpointChanges>(settings: T): Pick<T, keyof EndpointChanges & keyof T> {
  const entries = SETTINGS.filter((name) => Object.hasOwn(settings, name)).map(
    (name) => [name, settings[name]] as const,
  );
  return Object.fromEntries(entries) as Pick<T, keyof EndpointChanges & keyof T>;
}

function validate(settings: EndpointChanges): void {
  const { types, headers, fifo, concurrency, maxPerSecond } = settings;
  const isFilter = (type: unknown): boolean => typeof type === 'string' && FILTER.test(type);
  const areTypes =
    Array.isArray(types) && types.length > 0 && types.length <= 100 && types.every(isFilter);
  if (Object.hasOwn(settings, 'types') && !areTypes) {
    throw invalid(
      "types must hold 1 to 100 event types, such as 'invoice.paid', 'invoice.*' or '*'",
    );
  }
  const areHeaders = typeof headers === 'object' && headers !== null && !Array.isArray(headers);
  if (headers !== undefined && !(areHeaders && Object.keys(headers).length <= 100)) {
    throw invalid('headers must be a record of up to 100 names and values');
  }
  customHeaders(headers ?? {});
  if (fifo !== undefined && typeof fifo !== 'boolean') throw invalid('fifo must be true or false');
  const isCount =
    Number.isInteger(concurrency) && (concurrency ?? 0) >= 1 && (concurrency ?? 0) <= 1000;
  if (concurrency !== undefined && !isCount) {
    throw invalid('concurrency must be a whole number from 1 to 1,000');
  }
  const isRate = typeof maxPerSecond === 'number' && maxPerSecond > 0 && maxPerSecond <= 1e6;
  if (maxPerSecond !== undefined && !isRate) throw invalid('maxPerSecond must be a number above 0');
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
  if (typeof secret !== 'string') throw invalid('secret must be the text of a whsec_ or whsk_');
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
