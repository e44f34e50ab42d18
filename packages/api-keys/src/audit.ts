/** What happened to a key, as kept in the store when `audit: true`. */
export interface AuditEntry {
  readonly event: 'created' | 'rotated' | 'revoked' | 'denied' | 'used';
  readonly id: string;
  readonly atMs: number;
  /** Who did it, where the caller said so. */
  readonly actor?: string;
  /** Why it was revoked, or the status it was denied with. */
  readonly reason?: string;
  readonly ip?: string;
}
