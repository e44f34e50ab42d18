/** Whether a path is one that a pattern speaks about. */
export type PathMatch = (path: string) => boolean;

/**
 * Compiles a pattern: segments that are literal, `:name` (one segment, whatever it is) or, at the end, `*` (anything,
 * also nothing).
 *
 * It matches generously: whatever spelling of the path any router might accept. Letter case, trailing, doubled and
 * backward slashes, dot segments, percent-encoding (also twice) and what follows a semicolon are all read both ways,
 * as written and as meant. A policy too many is refused once; a policy that was skipped is a hole.
 * @throws TypeError for any other pattern: one that is not understood would match nothing, silently.
 */
export function pathMatch(pattern: string): PathMatch {
  const parts = segments(pattern).map((part) => part.toLowerCase());
  const open = parts.at(-1) === '*';
  const fixed = open ? parts.slice(0, -1) : parts;
  if (!pattern.startsWith('/') || !fixed.every((part) => /^(?::\w+|[^:*?+(){}[\]]+)$/.test(part))) {
    throw new TypeError(
      `route: expected a path such as /payments/:id or /payments/*, got "${pattern}"`,
    );
  }
  const fits = (path: readonly string[]): boolean =>
    (open ? path.length >= fixed.length : path.length === fixed.length) &&
    fixed.every((part, index) => part.startsWith(':') || part === path[index]);
  return (path) => readings(path).some(fits);
}

/** The routes of a chain look at one path one after the other: it is read once. */
let latest: { readonly path: string; readonly readings: string[][] } = { path: '', readings: [] };

function readings(path: string): string[][] {
  if (latest.path !== path) latest = { path, readings: readingsOf(path) };
  return latest.readings;
}

/** Every way to read a path that some router knows, as segments in lower case. */
function readingsOf(path: string): string[][] {
  const plain = /^(?:\/[\w-][\w.-]*)+$/.test(path);
  if (plain) return [segments(path.toLowerCase())];
  return spellings(path.toLowerCase()).flatMap((text) => {
    const parts = text.split('/');
    return [parts, parts.map(decoded)].flatMap((read) => [
      filled(read),
      resolved(filled(read)),
      // A URL parser lets `..` take back an empty segment as well: `/a//..` is `/a/` to it.
      filled(resolved(read)),
    ]);
  });
}

/** As received; decoded before it is split, once and twice; each with and without what stands behind a semicolon. */
function spellings(path: string): string[] {
  const once = decoded(path);
  const all = [path, once, decoded(once)].flatMap((text) => [text, text.replaceAll('\\', '/')]);
  const cut = all.flatMap((text) => [
    text,
    text.replace(/[?#;].*$/s, ''),
    text.replace(/[?#].*$/s, ''),
    text.replace(/;[^/]*/g, ''),
  ]);
  // URL parsers drop these wherever they stand (WHATWG URL §4.4), and control characters and spaces at the end.
  return [...new Set(cut.flatMap((text) => [text, stripped(text)]))];
}

function stripped(text: string): string {
  const visible = text.replace(/[\t\n\r]/g, '');
  let end = visible.length;
  while (end > 0 && visible.charCodeAt(end - 1) <= 0x20) end -= 1;
  return visible.slice(0, end);
}

function segments(path: string): string[] {
  return filled(path.split('/'));
}

/** Doubled and trailing slashes mean nothing. */
function filled(parts: readonly string[]): string[] {
  return parts.filter((part) => part !== '');
}

function resolved(parts: readonly string[]): string[] {
  const kept: string[] = [];
  for (const part of parts) {
    if (part === '..') kept.pop();
    else if (part !== '.') kept.push(part);
  }
  return kept;
}

/** Percent-decoding that leaves alone what is none. */
function decoded(text: string): string {
  if (!text.includes('%')) return text;
  const read = text.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    try {
      return decodeURIComponent(run);
    } catch {
      return run.replace(/%[0-7][0-9a-f]/gi, decodeURIComponent);
    }
  });
  return read.toLowerCase();
}
