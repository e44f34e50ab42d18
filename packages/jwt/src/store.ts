/** Remembers revoked tokens. Must be shared by all processes that accept them. */
export interface DenylistStore {
  /** Remembers `id` for at least `ttlMs` milliseconds; never shortens a longer time. */
  add(id: string, ttlMs: number): void | Promise<void>;
  has(id: string): boolean | Promise<boolean>;
}

/** Remembers used DPoP proofs, so that each is used once. Must be shared by all processes that accept them. */
export interface DpopReplayStore {
  /** Takes `id` for `ttlMs` milliseconds, atomically. `false`: somebody has it already. */
  claim(id: string, ttlMs: number): boolean | Promise<boolean>;
}
