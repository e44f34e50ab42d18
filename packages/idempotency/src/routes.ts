import { METHODS } from 'node:http';

const pattern = /^([A-Z-]+) ((?:\/(?::[A-Za-z_]\w*|[^\s/:*?#%+(){}[\]\\]+))*\/?\*?)$/;

/** Segments that everybody reads alike but for their letters' case. */
const plain = /^(?:\/[\w~-][\w.~-]*)+$/;

/**
 * The path by which spellings that some router treats alike are one: letters' case, percent-encoding, dot segments,
 * doubled and trailing slashes.
 */
export function canonicalPath(path: string): string {
  return plain.test(path) ? path.toLowerCase() : resolved(decoded(path)).toLowerCase();
}

/** `POST`, but not `post`, nor `ALL`: that is a word of frameworks, and no request comes with it. */
export function isMethod(method: string): boolean {
  return METHODS.includes(method);
}

/** What tells whether a request is on one of the routes. */
export type RouteTest = (method: string, path: string) => boolean;

/**
 * Reads patterns such as `POST /orders/:id/pay` and `POST /webhooks/*` (`:name` is one segment, a final `*` any rest,
 * also none). Matching is generous, whatever spelling of a path any router might accept: requiring a key of a path that
 * does not exist harms nobody, missing one does.
 */
export function routes(patterns: readonly string[]): RouteTest {
  if (!Array.isArray(patterns)) throw new TypeError('required: expected a list of patterns');
  const byMethod = new Map<string, RegExp[]>();
  for (const text of patterns) {
    const [, method = '', path = ''] = pattern.exec(text) ?? [];
    // One that is not understood would match nothing, silently.
    if (!isMethod(method) || /[^/]\*$/.test(path)) {
      throw new TypeError(
        `required: expected patterns such as "POST /orders/:id/pay", got "${text}"`,
      );
    }
    byMethod.set(method, [...(byMethod.get(method) ?? []), expression(path)]);
  }
  return (method, path) => {
    const candidates = byMethod.get(method);
    if (!candidates) return false;
    const read = readings(path);
    return candidates.some((route) => read.some((reading) => route.test(reading)));
  };
}

function expression(path: string): RegExp {
  const source = squeezed(path)
    .replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
    .replace(/:\w+/g, '[^/]+')
    .replace(/\/\\\*$/, '(?:/.*)?');
  return new RegExp(`^${source}$`, 'is');
}

/**
 * The ways to read a path: an encoded slash is one to some routers and a letter to others, some cut what follows a
 * semicolon, and those that build a URL resolve dot segments and take a backslash for a slash (WHATWG URL §4.4).
 */
function readings(path: string): readonly string[] {
  if (plain.test(path)) return [path];
  return [path, path.replace(/%2f/gi, '%252f')]
    .map(decoded)
    .flatMap((text) => [text, text.replace(/;.*/s, '')])
    .flatMap((text) => [squeezed(text), resolved(text.replaceAll('\\', '/'))]);
}

function squeezed(path: string): string {
  return `/${path.split('/').filter(Boolean).join('/')}`;
}

function resolved(path: string): string {
  const kept: string[] = [];
  for (const part of path.split('/')) {
    if (part === '..') kept.pop();
    else if (part !== '.') kept.push(part);
  }
  return squeezed(kept.join('/'));
}

/** Percent-decoding that leaves alone what is none, as routers do it that do not refuse it. */
function decoded(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    try {
      return decodeURIComponent(run);
    } catch {
      return run.replace(/%[0-7][0-9a-f]/gi, decodeURIComponent);
    }
  });
}
