/** One challenge of a `WWW-Authenticate` field (RFC 9110 §11.6.1). */
export interface Challenge {
  /** In lower case. */
  readonly scheme: string;
  /** Names in lower case. */
  readonly parameters: Readonly<Record<string, string>>;
}

const TOKEN = "[\\w!#$%&'*+.^`|~-]+";
const PARAMETER = new RegExp(`^(${TOKEN})\\s*=\\s*(?:"((?:[^"\\\\]|\\\\.)*)"|(${TOKEN}))\\s*`);
const SCHEME = new RegExp(`^(${TOKEN})(?=[\\s,]|$)\\s*`);
const TOKEN68 = /^[A-Za-z0-9._~+/-]+=*\s*(?=,|$)/;

/** Reads all challenges of a field; stops at what it cannot read. */
export function parseChallenges(field: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let rest = field.slice(0, 8192).trim();
  while (rest !== '') {
    const parameter = PARAMETER.exec(rest);
    const last = challenges.at(-1);
    if (parameter && last) {
      const [whole, name = '', quoted, plain] = parameter;
      last.parameters[name.toLowerCase()] = quoted?.replace(/\\(.)/g, '$1') ?? plain ?? '';
      rest = rest.slice(whole.length);
    } else {
      const scheme = SCHEME.exec(rest);
      if (!scheme) break;
      challenges.push({ scheme: (scheme[1] ?? '').toLowerCase(), parameters: {} });
      rest = rest.slice(scheme[0].length);
      if (!PARAMETER.test(rest)) rest = rest.replace(TOKEN68, '');
    }
    rest = rest.replace(/^[,\s]+/, '');
  }
  return challenges;
}
