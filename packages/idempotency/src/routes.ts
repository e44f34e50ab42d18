const pattern = /^([A-Z]+) (\/\S*)$/;

/**
 * The path by which spellings that many routers treat alike are one: percent-encoding, doubled and trailing slashes.
 */
export function canonicalPath(path: string): string {
  const decoded = path.includes('%') ? decode(path) : path;
  const single = decoded.includes('//') ? decoded.replace(/\/{2,}/g, '/') : decoded;
  return single.length > 1 && single.endsWith('/') ? single.slice(0, -1) : single;
}

/** What tells whether a request is on one of the routes. */
export type RouteTest = (method: string, path: string) => boolean;

/**
 * Reads patterns such as `POST /orders/:id/pay` and `POST /webhooks/*` (`:name` is one segment, a final `*` any rest).
 * Matching ignores case: requiring a key of a path that does not exist harms nobody, missing one does.
 */
export function routes(patterns: readonly string[]): RouteTest {
  const byMethod = new Map<string, RegExp[]>();
  for (const text of patterns) {
    const [, method = '', path = ''] = pattern.exec(text) ?? [];
    if (method === '' || path.slice(0, -1).includes('*')) {
      throw new TypeError(
        `required: expected patterns such as "POST /orders/:id/pay", got "${text}"`,
      );
    }
    byMethod.set(method, [...(byMethod.get(method) ?? []), expression(path)]);
  }
  return (method, path) => byMethod.get(method)?.some((route) => route.test(path)) ?? false;
}

function expression(path: string): RegExp {
  const source = canonicalPath(path)
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replace(/:[A-Za-z_]\w*/g, '[^/]+')
    .replace(/\\\*$/, '.*');
  return new RegExp(`^${source}$`, 'i');
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
