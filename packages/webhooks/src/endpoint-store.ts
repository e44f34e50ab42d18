/** A secret that an endpoint's deliveries are signed with. */
export interface EndpointSecret {
  readonly secret: string;
  /** Absent for the current one; older ones sign along until then. Milliseconds since the epoch. */
  readonly expiresAtMs?: number;
}

/** Where events are delivered, and how. */
export interface Endpoint {
  /** 1 to 64 letters, digits, `_` and `-`. */
  readonly id: string;
  readonly url: string;
  /** The current secret first. */
  readonly secrets: readonly EndpointSecret[];
  /** Which event types it wants: `invoice.paid`, `invoice.*`, or `*` for all. */
  readonly types: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  /** One at a time, in the order of publishing: a delivery that fails holds up those behind it. Default false. */
  readonly fifo?: boolean;
  /** Attempts at the same time. Default 10. */
  readonly concurrency?: number;
  /** Attempts per second. Default: no limit. */
  readonly maxPerSecond?: number;
  /** Its own client certificate, in PEM. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string };
  readonly createdAtMs: number;
}

/** What can be changed about an endpoint. */
export type EndpointChanges = {
  readonly [Name in Exclude<keyof Endpoint, 'id' | 'secrets' | 'createdAtMs'>]?:
    | Endpoint[Name]
    | undefined;
};

/** Puts a secret before those that there are. */
export interface SecretRotation {
  readonly secret: string;
  /** Secrets that expired by then are forgotten. Milliseconds since the epoch. */
  readonly atMs: number;
  /** When the others stop signing along; one that would have stopped earlier does. Milliseconds since the epoch. */
  readonly overlapEndsAtMs: number;
}

export type SecretRotationOutcome =
  | { readonly status: 'rotated'; readonly endpoint: Endpoint }
  /** `too_many`: more than 16 would sign. Nothing changed. */
  | { readonly status: 'not_found' | 'too_many' };

/** As many as a receiver looks at. */
export const MAX_SECRETS = 16;

/**
 * Keeps endpoints. Each operation is atomic, none is "get, then put": of two changes at the same time none is lost. Run the
 * contract suite (`@countersign/webhooks/endpoint-store-contract`) against your own.
 */
export interface EndpointStore {
  get(id: string): Promise<Endpoint | undefined>;
  /** Creates or replaces it as a whole. */
  put(endpoint: Endpoint): Promise<void>;
  /** `false`, and no change, when there is one with this id. */
  create(endpoint: Endpoint): Promise<boolean>;
  /** Changes what is given, removes what is given as `undefined`; the endpoint as it is then, `undefined` when there is none. */
  update(id: string, changes: EndpointChanges): Promise<Endpoint | undefined>;
  rotateSecret(id: string, rotation: SecretRotation): Promise<SecretRotationOutcome>;
  /** `false` when there was none. */
  delete(id: string): Promise<boolean>;
  /** In no particular order. */
  list(): Promise<readonly Endpoint[]>;
  /** The ids of the endpoints that want events of this type; `undefined`: events without a type go to `*` only. */
  matching(type: string | undefined): Promise<readonly string[]>;
}

/** The secrets after a rotation; `undefined` when more than 16 would sign. */
export function rotatedSecrets(
  secrets: readonly EndpointSecret[],
  { secret, atMs, overlapEndsAtMs }: SecretRotation,
): readonly EndpointSecret[] | undefined {
  const kept = secrets
    .map((old) => ({
      ...old,
      expiresAtMs: Math.min(old.expiresAtMs ?? overlapEndsAtMs, overlapEndsAtMs),
    }))
    .filter(({ expiresAtMs }) => expiresAtMs > atMs);
  return kept.length < MAX_SECRETS ? [{ secret }, ...kept] : undefined;
}

/** The filters under which an event type is wanted: itself, its groups, and `*`. */
export function filtersFor(type: string | undefined): readonly string[] {
  if (type === undefined) return ['*'];
  const parts = type.split('.');
  const groups = parts.slice(1).map((_, index) => `${parts.slice(0, index + 1).join('.')}.*`);
  return [type, ...groups, '*'];
}

/** An endpoint store for one process. */
export function memoryEndpointStore(): EndpointStore {
  const endpoints = new Map<string, Endpoint>();
  // Nobody can change what is kept by changing what was given or got.
  const copyOf = <T extends Endpoint | undefined>(endpoint: T): T => structuredClone(endpoint);
  const set = (endpoint: Endpoint): Endpoint => {
    endpoints.set(endpoint.id, copyOf(endpoint));
    return endpoint;
  };
  return {
    get: async (id) => copyOf(endpoints.get(id)),
    put: async (endpoint) => void set(endpoint),
    async create(endpoint) {
      if (endpoints.has(endpoint.id)) return false;
      set(endpoint);
      return true;
    },
    async update(id, changes) {
      const before = endpoints.get(id);
      if (!before) return undefined;
      const entries = Object.entries({ ...before, ...changes });
      const given = entries.filter(([, value]) => value !== undefined);
      return copyOf(set(Object.fromEntries(given) as unknown as Endpoint));
    },
    async rotateSecret(id, rotation) {
      const before = endpoints.get(id);
      if (!before) return { status: 'not_found' };
      const secrets = rotatedSecrets(before.secrets, rotation);
      if (!secrets) return { status: 'too_many' };
      return { status: 'rotated', endpoint: copyOf(set({ ...before, secrets })) };
    },
    delete: async (id) => endpoints.delete(id),
    list: async () => [...endpoints.values()].map(copyOf),
    async matching(type) {
      const filters = new Set(filtersFor(type));
      return [...endpoints.values()]
        .filter(({ types }) => types.some((wanted) => filters.has(wanted)))
        .map(({ id }) => id);
    },
  };
}
