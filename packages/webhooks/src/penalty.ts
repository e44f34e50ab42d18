/** Endpoints that asked to be left alone for a while. */
export interface Penalties {
  /** When the endpoint may be called again, in milliseconds since the epoch; 0 when nothing is known against it. */
  endsAtMs(endpoint: string): number;
  add(endpoint: string, durationMs: number): void;
}

/** Remembers the latest penalties of up to `maxEntries` endpoints (default 10,000). */
export function penalties({
  now,
  maxEntries = 10_000,
}: {
  readonly now: () => number;
  readonly maxEntries?: number;
}): Penalties {
  const ends = new Map<string, number>();
  return {
    endsAtMs(endpoint) {
      const endsAtMs = ends.get(endpoint) ?? 0;
      if (endsAtMs <= now()) ends.delete(endpoint);
      return endsAtMs;
    },
    add(endpoint, durationMs) {
      const endsAtMs = Math.max(ends.get(endpoint) ?? 0, now() + durationMs);
      ends.delete(endpoint);
      ends.set(endpoint, endsAtMs);
      const oldest = ends.keys().next();
      if (ends.size > maxEntries && !oldest.done) ends.delete(oldest.value);
    },
  };
}
