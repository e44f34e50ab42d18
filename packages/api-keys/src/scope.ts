const MAX_SCOPE_LENGTH = 128;
// A scope token of RFC 6749 §3.3: printable ASCII without space, quote and backslash.
const SCOPE = /^[\x21\x23-\x5B\x5D-\x7E]+$/;

/** Whether the text is a scope a key can be given: `*` only as the whole last segment (`orders:*`, `*`). */
export function isGrantableScope(scope: unknown): scope is string {
  if (typeof scope !== 'string' || scope.length > MAX_SCOPE_LENGTH || !SCOPE.test(scope)) {
    return false;
  }
  const segments = scope.split(':');
  return segments.every(
    (segment, index) =>
      segment !== '' &&
      (!segment.includes('*') || (segment === '*' && index === segments.length - 1)),
  );
}

/**
 * Whether one of the granted scopes covers the required one: the same text, or `a:*` above it (`a:b`, `a:b:c`;
 * not `a` itself), or `*`.
 */
export function covers(granted: readonly string[], required: string): boolean {
  return granted.some(
    (scope) =>
      scope === required ||
      (scope.endsWith('*') &&
        required.length >= scope.length &&
        required.startsWith(scope.slice(0, -1))),
  );
}
