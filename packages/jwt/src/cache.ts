/** A bounded map from exact token texts to what was found out about them. */
export interface TokenCache<T> {
  get(token: string): T | undefined;
  set(token: string, value: T): void;
  delete(token: string): void;
  /** Entries held now. */
  readonly size: number;
}

/** Together with the number of entries this bounds the memory: a token's text and its parsed claims are alike in size. */
const MAX_CHARACTERS = 16 * 1024 * 1024;

const TAIL_CHARACTERS = 16;

interface Entry<T> {
  readonly token: string;
  readonly value: T;
}

/**
 * Remembers tokens until newer ones need the room, oldest first: a token is only worth remembering for minutes, so
 * nothing is gained by tracking which was used last, and a hit changes nothing.
 */
export function tokenCache<T>(maxEntries: number): TokenCache<T> {
  const entries = new Map<number, Entry<T>>();
  /** In the order they came, as a ring. */
  const ring: (Entry<T> | undefined)[] = [];
  let oldest = 0;
  let count = 0;
  let characters = 0;

  function evict(): void {
    const entry = ring[oldest];
    if (entry) {
      const slot = slotOf(entry.token);
      if (entries.get(slot) === entry) entries.delete(slot);
      characters -= entry.token.length;
    }
    ring[oldest] = undefined;
    oldest = (oldest + 1) % maxEntries;
    count -= 1;
  }

  return {
    get(token) {
      const entry = entries.get(slotOf(token));
      return entry?.token === token ? entry.value : undefined;
    },
    set(text, value) {
      // A copy: a token cut out of a larger text would keep all of that text in memory.
      const token = Buffer.from(text, 'latin1').toString('latin1');
      while (count > 0 && (count >= maxEntries || characters + token.length > MAX_CHARACTERS))
        evict();
      const entry = { token, value };
      ring[(oldest + count) % maxEntries] = entry;
      entries.set(slotOf(token), entry);
      count += 1;
      characters += token.length;
    },
    delete(token) {
      entries.delete(slotOf(token));
    },
    get size() {
      return entries.size;
    },
  };
}

/**
 * Where to look for a token: a number made of the end of its signature, which is as good as random. Hashing all of the
 * text costs more than everything else on a hit. Two tokens may share a slot, so whoever looks there must compare the
 * texts; then the newer one has it, and the other is checked in full each time.
 */
function slotOf(token: string): number {
  let slot = 0;
  for (let at = Math.max(0, token.length - TAIL_CHARACTERS); at < token.length; at += 1)
    slot = (Math.imul(slot, 31) + token.charCodeAt(at)) | 0;
  return slot;
}
