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

/**
 * Remembers the tokens used most recently, roughly: entries live in two generations, a hit moves an entry to the young
 * one, and when that is half of `maxEntries` the old one is dropped as a whole. Nothing is ever scanned or sorted.
 * The key is the text itself, not a digest of it: a digest costs more than everything else on a hit, and a short one
 * collides.
 */
export function tokenCache<T>(maxEntries: number): TokenCache<T> {
  const perGeneration = Math.max(1, Math.floor(maxEntries / 2));
  let young = new Map<string, T>();
  let old = new Map<string, T>();
  let characters = 0;

  function add(token: string, value: T): void {
    if (young.size >= perGeneration || characters >= MAX_CHARACTERS / 2) {
      old = young;
      young = new Map();
      characters = 0;
    }
    young.set(token, value);
    characters += token.length;
  }

  return {
    get(token) {
      const value = young.get(token);
      if (value !== undefined) return value;
      const aged = old.get(token);
      if (aged === undefined) return undefined;
      old.delete(token);
      add(token, aged);
      return aged;
    },
    set(token, value) {
      // A copy: a token cut out of a larger text would keep all of that text in memory.
      add(Buffer.from(token, 'latin1').toString('latin1'), value);
    },
    delete(token) {
      young.delete(token);
      old.delete(token);
    },
    get size() {
      return young.size + old.size;
    },
  };
}
