import type { GuardRequest } from '@countersign/guard';
import { JwtError } from './errors.ts';

/** An access token as it came with a request. */
export interface Credentials {
  readonly scheme: 'Bearer' | 'DPoP';
  readonly token: string;
}

/** RFC 9110 §11.4: a scheme, spaces, a `token68`. */
const CREDENTIALS = /^([A-Za-z]+) +([A-Za-z0-9._~+/-]+=*)$/;

/**
 * The token of the `Authorization` header: the only place it is taken from (RFC 6750 §2.1, RFC 9449 §7.1).
 * `undefined` when the request brings no token of either scheme.
 * @throws JwtError `ERR_JWT_REQUEST` for several headers, a header that cannot be read, or a token in the query
 */
export function credentialsOf(request: GuardRequest): Credentials | undefined {
  const [field, another] = request.headers.all('authorization');
  if (another !== undefined) throw badRequest('More than one Authorization header');
  // Queries end up in logs, histories and referrers (RFC 9700 §4.3.2).
  if (request.query.has('access_token')) throw badRequest('A token in the query');
  if (field === undefined) return undefined;
  const scheme = SCHEMES.get((/^[^ ]*/.exec(field)?.[0] ?? '').toLowerCase());
  if (scheme === undefined) return undefined;
  const token = CREDENTIALS.exec(field)?.[2];
  if (token === undefined) throw badRequest('The Authorization header cannot be read');
  return { scheme, token };
}

/** Whether the body is of the one kind that RFC 6750 §2.2 let tokens travel in. */
export function isForm({ headers }: GuardRequest): boolean {
  const type = headers.get('content-type');
  return type !== undefined && FORM.test(type);
}

/** @throws JwtError `ERR_JWT_REQUEST` when the form brings a token */
export async function assertNoTokenIn(form: GuardRequest): Promise<void> {
  const text = Buffer.from(await form.rawBody()).toString('latin1');
  if (new URLSearchParams(text).has('access_token')) throw badRequest('A token in the body');
}

const FORM = /application\/x-www-form-urlencoded/i;

const SCHEMES: ReadonlyMap<string, Credentials['scheme']> = new Map([
  ['bearer', 'Bearer'],
  ['dpop', 'DPoP'],
]);

function badRequest(message: string): JwtError {
  return new JwtError('ERR_JWT_REQUEST', message);
}
