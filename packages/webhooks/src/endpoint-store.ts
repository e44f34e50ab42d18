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

/** Keeps endpoints. */
export interface EndpointStore {
  get(id: string): Promise<Endpoint | undefined>;
  /** Creates or replaces. */
  put(endpoint: Endpoint): Promise<void>;
  /** `false` when there was none. */
  delete(id: string): Promise<boolean>;
  /** In no particular order. */
  list(): Promise<readonly Endpoint[]>;
  /** The ids of the endpoints that want events of this type; `undefined`: events without a type go to `*` only. */
  matching(type: string | undefined): Promise<readonly string[]>;
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
  return {
    get: async (id) => endpoints.get(id),
    put: async (endpoint) => void endpoints.set(endpoint.id, structuredClone(endpoint)),
    delete: async (id) => endpoints.delete(id),
    list: async () => [...endpoints.values()],
    async matching(type) {
      const filters = new Set(filtersFor(type));
      return [...endpoints.values()]
        .filter(({ types }) => types.some((wanted) => filters.has(wanted)))
        .map(({ id }) => id);
    },
  };
}
