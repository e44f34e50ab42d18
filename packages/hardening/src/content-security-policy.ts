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
  'inline-speculation-rules',
  'none',
  'report-sample',
  'self',
  'strict-dynamic',
  'unsafe-eval',
  'unsafe-hashes',
  'unsafe-inline',
  'wasm-unsafe-eval',
];

/** What a sandboxed page may be allowed (HTML §4.8.5). */
const sandboxTokens: readonly string[] = [
  'allow-downloads',
  'allow-forms',
  'allow-modals',
  'allow-orientation-lock',
  'allow-pointer-lock',
  'allow-popups',
  'allow-popups-to-escape-sandbox',
  'allow-presentation',
  'allow-same-origin',
  'allow-scripts',
  'allow-storage-access-by-user-activation',
  'allow-top-navigation',
  'allow-top-navigation-by-user-activation',
  'allow-top-navigation-to-custom-protocols',
];

/** Directives whose values are no sources: what each of them may be. */
const valuesOf: ReadonlyMap<string, (value: string) => boolean> = new Map([
  ['report-to', (value: string) => /^[\w.-]+$/.test(value)],
  ['report-uri', (value: string) => !/["'<>\\^`{|}]/.test(value)],
  ['require-trusted-types-for', (value: string) => value === "'script'"],
  ['sandbox', (value: string) => sandboxTokens.includes(value)],
  [
    'trusted-types',
    (value: string) =>
      ["'none'", "'allow-duplicates'", '*'].includes(value) || /^[\w\-#=/@.%]+$/.test(value),
  ],
]);

const schemeSource = /^[a-z][a-z\d+.-]*:$/i;
const hostSource =
  /^(?:[a-z][a-z\d+.-]*:\/\/)?(?:\*|(?:\*\.)?[\w-]+(?:\.[\w-]+)*\.?)(?::(?:\d+|\*))?(?:\/[\w\-./~!$&'()*+=:@%]*)?$/i;

/** A nonce or hash that has lost its quotes. */
const bareSecret = /^(?:nonce|sha(?:256|384|512))-[\w+/-]*=*$/i;

const withoutValues: readonly string[] = ['sandbox', 'upgrade-insecure-requests'];

/**
 * The value of `Content-Security-Policy` (CSP Level 3 §2.2).
 * @param defaults - the profile's, which the directives of `policy` replace one by one. A text replaces all of them.
 * @throws TypeError for what browsers would ignore in silence: a directive, keyword or token that does not exist, a keyword without its quotes.
 */
export function serialiseContentSecurityPolicy(
  policy: string | ContentSecurityPolicy,
  defaults: ContentSecurityPolicy,
): string {
  if (
    typeof policy !== 'string' &&
    (typeof policy !== 'object' || policy === null || Array.isArray(policy))
  ) {
    throw refusal('must be false, a text or an object of directives');
  }
  const chosen = typeof policy === 'string' ? parsed(policy) : { ...defaults, ...policy };
  const lines = Object.entries(chosen).flatMap(([directive, values]) =>
    values === false || values === undefined ? [] : [serialised(directive, values)],
  );
  if (lines.length === 0) throw refusal('it is empty; false sends none');
  return lines.join('; ');
}

function parsed(text: string): Readonly<Record<string, readonly string[]>> {
  const found = new Map<string, readonly string[]>();
  for (const line of text.split(';')) {
    const [directive = '', ...values] = line.trim().split(/ +/);
    if (directive === '') continue;
    // Browsers go by the first and ignore every other.
    if (found.has(directive)) throw refusal(`${directive} occurs twice`);
    found.set(directive, values);
  }
  return Object.fromEntries(found);
}

function serialised(directive: string, values: readonly string[]): string {
  if (!(directives as readonly string[]).includes(directive)) {
    throw refusal(`there is no directive ${JSON.stringify(directive)}`);
  }
  if (!Array.isArray(values)) throw refusal(`${directive} must be a list of texts, or false`);
  if (values.length === 0 && !withoutValues.includes(directive)) {
    throw refusal(`${directive} has no values; to allow nothing, say "'none'"`);
  }
  if (values.length > 0 && directive === 'upgrade-insecure-requests') {
    throw refusal(`${directive} takes no values`);
  }
  if (values.length > 1 && directive === 'report-to') throw refusal('report-to is one name');
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
  const isValue = valuesOf.get(directive);
  if (directive === 'trusted-types' && ['none', 'allow-duplicates'].includes(value.toLowerCase())) {
    throw refusal(`${directive}: ${value} without quotes is the name of a policy`);
  }
  if (!isValue) checkSource(directive, value);
  else if (!isValue(value)) throw refusal(`${directive}: there is no value ${value}`);
}

function checkSource(directive: string, value: string): void {
  const quoted = /^'(?<word>.*)'$/.exec(value)?.groups?.['word'];
  if (quoted === undefined) {
    if (keywords.includes(value.toLowerCase()) || bareSecret.test(value)) {
      throw refusal(
        `${directive}: ${value} without quotes is the name of a host; say "'${value}'"`,
      );
    }
    if (!schemeSource.test(value) && !hostSource.test(value)) {
      throw refusal(`${directive}: ${value} is neither a keyword in quotes nor a scheme or host`);
    }
  } else if (/^nonce-/i.test(quoted)) {
    throw refusal(`${directive}: a nonce that is the same in every response protects nothing`);
  } else if (
    // About who may frame a page there is nothing else to say (CSP §6.4.2).
    directive === 'frame-ancestors'
      ? !['none', 'self'].includes(quoted)
      : !keywords.includes(quoted) && !/^sha(?:256|384|512)-[A-Za-z0-9+/_-]+={0,2}$/.test(quoted)
  ) {
    throw refusal(`${directive}: there is no keyword ${value}`);
  }
}

function refusal(reason: string): TypeError {
  return new TypeError(`securityHeaders: contentSecurityPolicy: ${reason}`);
}
