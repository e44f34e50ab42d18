const directives = [
  'base-uri',
  'child-src',
  'connect-src',
  'default-src',
  'font-src',
  'form-action',
  'frame-ancestors',
  'frame-src',
  'img-src',
  'manifest-src',
  'media-src',
  'object-src',
  'report-to',
  'report-uri',
  'require-trusted-types-for',
  'sandbox',
  'script-src',
  'script-src-attr',
  'script-src-elem',
  'style-src',
  'style-src-attr',
  'style-src-elem',
  'trusted-types',
  'upgrade-insecure-requests',
  'worker-src',
] as const;

/** A directive of Content Security Policy Level 3, or of Trusted Types. */
export type ContentSecurityPolicyDirective = (typeof directives)[number];

/** Directives and their values; `false` leaves one out. What is not named is as the profile has it. */
export type ContentSecurityPolicy = {
  readonly [Directive in ContentSecurityPolicyDirective]?: false | readonly string[];
};

/** What means something in quotes, and without them would be the name of a host. */
const keywords: readonly string[] = [
  'allow-duplicates',
  'inline-speculation-rules',
  'none',
  'report-sample',
  'script',
  'self',
  'strict-dynamic',
  'unsafe-eval',
  'unsafe-hashes',
  'unsafe-inline',
  'wasm-unsafe-eval',
];

const withoutValues: readonly string[] = ['sandbox', 'upgrade-insecure-requests'];

/**
 * The value of `Content-Security-Policy` (CSP Level 3 §2.2).
 * @param defaults - the profile's, which the directives of `policy` replace one by one. A text replaces all of them.
 * @throws TypeError for what browsers would ignore in silence: a directive or keyword that does not exist, a keyword without its quotes.
 */
export function serialiseContentSecurityPolicy(
  policy: string | ContentSecurityPolicy,
  defaults: ContentSecurityPolicy,
): string {
  const chosen = typeof policy === 'string' ? parsed(policy) : { ...defaults, ...policy };
  const lines = Object.entries(chosen).flatMap(([directive, values]) =>
    values === false || values === undefined ? [] : [serialised(directive, values)],
  );
  if (lines.length === 0) throw refusal('it is empty; false sends none');
  return lines.join('; ');
}

function parsed(text: string): Readonly<Record<string, readonly string[]>> {
  const found: Record<string, readonly string[]> = {};
  for (const line of text.split(';')) {
    const [directive = '', ...values] = line.trim().split(/ +/);
    if (directive === '') continue;
    // Browsers go by the first and ignore every other.
    if (Object.hasOwn(found, directive)) throw refusal(`${directive} occurs twice`);
    found[directive] = values;
  }
  return found;
}

function serialised(directive: string, values: readonly string[]): string {
  if (!(directives as readonly string[]).includes(directive)) {
    throw refusal(`there is no directive ${JSON.stringify(directive)}`);
  }
  if (!Array.isArray(values)) throw refusal(`${directive} must be a list of texts, or false`);
  if (values.length === 0 && !withoutValues.includes(directive)) {
    throw refusal(`${directive} has no values; to allow nothing, say "'none'"`);
  }
  if (values.length > 1 && values.includes("'none'")) {
    throw refusal(`${directive} has 'none' beside other values, where browsers ignore it`);
  }
  for (const value of values) check(directive, value);
  return [directive, ...values].join(' ');
}

function check(directive: string, value: string): void {
  if (typeof value !== 'string' || !/^[\x21-\x2b\x2d-\x3a\x3c-\x7e]+$/.test(value)) {
    throw refusal(
      `${directive}: ${JSON.stringify(value)} must be printable ASCII without spaces, commas and semicolons`,
    );
  }
  const quoted = /^'(?<word>.*)'$/.exec(value)?.groups?.['word'];
  if (quoted === undefined) {
    if (keywords.includes(value.toLowerCase()) && value !== 'script') {
      throw refusal(
        `${directive}: ${value} without quotes is the name of a host; say "'${value}'"`,
      );
    }
  } else if (/^nonce-/i.test(quoted)) {
    throw refusal(`${directive}: a nonce that is the same in every response protects nothing`);
  } else if (
    !keywords.includes(quoted) &&
    !/^sha(?:256|384|512)-[A-Za-z0-9+/_-]+={0,2}$/.test(quoted)
  ) {
    throw refusal(`${directive}: there is no keyword ${value}`);
  }
}

function refusal(reason: string): TypeError {
  return new TypeError(`securityHeaders: contentSecurityPolicy: ${reason}`);
}
