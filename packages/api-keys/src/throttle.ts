/**
 * Lets one thing through per name and interval. Remembers `maxNames` names; a forgotten one is let through early,
 * so whatever is behind must bear it.
 */
export function throttle(
  intervalMs: number,
  maxNames: number,
): (name: string, nowMs: number) => boolean {
  const last = new Map<string, number>();
  return (name, nowMs) => {
    const lastMs = last.get(name);
    if (lastMs !== undefined && nowMs - lastMs < intervalMs) return false;
    last.delete(name);
    last.set(name, nowMs);
    if (last.size > maxNames) {
      for (const oldest of last.keys()) {
        last.delete(oldest);
        break;
      }
    }
    return true;
  };
}
