/** A call that was begun: all that is needed to make it again, with the same key. */
export interface JournalEntry {
  readonly version: 1;
  /** The Idempotency-Key; the entry's name. */
  readonly key: string;
  readonly origin: string;
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** What the caller gave for this call; never what is attached as identity. */
  readonly headers: Readonly<Record<string, string>>;
  /** Base64; absent when there is none. */
  readonly body?: string;
  /** SHA-256 over method, path and body, hexadecimal. */
  readonly fingerprint: string;
  /** Wall clock, milliseconds since the epoch. */
  readonly createdAtMs: number;
  /** Until then the one who wrote it may be at work. */
  readonly deadlineAtMs: number;
  /** From then on the server may have forgotten the key, and would do the work a second time. */
  readonly expiresAtMs: number;
}

/** Where calls are written down before they are sent. */
export interface JournalStore {
  /** Keeps the entry. Resolves when it will survive a crash, and not before. */
  begin(entry: JournalEntry): Promise<void>;
  /**
   * Forgets the entry: its caller knows what became of it. This may be lost in a crash: a call that is finished twice
   * under one key has one effect.
   */
  settle(origin: string, key: string): Promise<void>;
  /**
   * Takes over one entry of an origin that nobody is at work on, for `leaseMs`: not the one who began it (its deadline
   * has passed, or its process is gone), nor another who claimed it. `undefined` when there is none.
   */
  claim(origin: string, leaseMs: number): Promise<JournalEntry | undefined>;
  /** Releases what it holds. */
  close(): Promise<void>;
}
