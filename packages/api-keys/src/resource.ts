const MAX_RESOURCE_LENGTH = 512;
const DOTS_OR_NOTHING = /^(?:\.|%2e){0,2}$/i;

/** Whether the text is a resource pattern: segments between `/`, `*` for one whole segment, `**` last for all below. */
export function isResourcePattern(pattern: unknown): pattern is string {
  if (typeof pattern !== 'string' || pattern.length > MAX_RESOURCE_LENGTH) return false;
  const segments = pattern.split('/');
  return segments.every((segment, index) => {
    if (segment === '**') return index === segments.length - 1;
    return segment === '*' || (isPlain(segment) && !segment.includes('*'));
  });
}

/**
 * Whether one of the patterns matches the resource. A resource with empty, `.` or `..` segments matches none, nor does one
 * that a URL parser would read as such (`%2e%2e`, `\\`): it is often a path as it was received, and handed on.
 */
export function matchesResource(patterns: readonly string[], resource: string): boolean {
  if (resource.length > MAX_RESOURCE_LENGTH) return false;
  const segments = resource.split('/');
  return (
    segments.every(isPlain) && patterns.some((pattern) => matches(pattern.split('/'), segments))
  );
}

function matches(pattern: readonly string[], segments: readonly string[]): boolean {
  if (pattern.at(-1) === '**') {
    const fixed = pattern.length - 1;
    return segments.length > fixed && sameSegments(pattern.slice(0, fixed), segments);
  }
  return pattern.length === segments.length && sameSegments(pattern, segments);
}

function sameSegments(pattern: readonly string[], segments: readonly string[]): boolean {
  return pattern.every((wanted, index) => wanted === '*' || wanted === segments[index]);
}

function isPlain(segment: string): boolean {
  return !DOTS_OR_NOTHING.test(segment) && !segment.includes('\\');
}
