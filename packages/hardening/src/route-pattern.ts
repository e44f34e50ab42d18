/** The parameters that a pattern names: `{ id: string }` for `/payments/:id`. */
export type ParamsOf<Path extends string> = string extends Path
  ? Readonly<Record<string, string>>
  : { readonly [Name in NamesIn<Path>]: string };

type NamesIn<Path extends string> = Path extends `${infer Head}/${infer Rest}`
  ? NameIn<Head> | NamesIn<Rest>
  : NameIn<Path>;
type NameIn<Part extends string> = Part extends `:${infer Name}` ? Name : never;

/** Longer is no id. */
const maxParamLength = 256;

/** The parameters of a path that has the pattern's form; `undefined` for any other path. */
export type RoutePattern = (path: string) => Readonly<Record<string, string>> | undefined;

/**
 * Compiles a pattern of literal segments and `:name`. It matches strictly, one spelling of each path: a handler that is reached in one way only cannot be
 * reached around what protects it. A parameter is percent-decoded once; one that is empty, longer than 256 characters, a dot segment, malformed, or has a
 * slash or a control character in it is none.
 * @throws TypeError for any other pattern.
 */
export function routePattern(pattern: string): RoutePattern {
  const parts = pattern.split('/').slice(1);
  const names = parts.filter((part) => part.startsWith(':'));
  const isPattern =
    /^(?:\/(?::[a-z_]\w*|[\w.~-]+))+$|^\/$/i.test(pattern) && !names.includes(':__proto__');
  if (!isPattern || new Set(names).size < names.length) {
    throw new TypeError(`path: expected a path such as /payments/:id, got "${pattern}"`);
  }
  return (path) => {
    const given = path.split('/').slice(1);
    if (given.length !== parts.length || !path.startsWith('/')) return undefined;
    const params: Record<string, string> = {};
    for (const [at, part] of parts.entries()) {
      const segment = given[at] ?? '';
      if (part.startsWith(':')) {
        const value = parameter(segment);
        if (value === undefined) return undefined;
        params[part.slice(1)] = value;
      } else if (segment !== part) return undefined;
    }
    return params;
  };
}

function parameter(segment: string): string | undefined {
  // Percent-encoding takes up to twelve characters for two.
  if (segment.length > 6 * maxParamLength) return undefined;
  try {
    const value = decodeURIComponent(segment);
    if (value === '' || value === '.' || value === '..' || value.length > maxParamLength) {
      return undefined;
    }
    return /[/\\\p{Cc}]/u.test(value) ? undefined : value;
  } catch {
    return undefined;
  }
}
