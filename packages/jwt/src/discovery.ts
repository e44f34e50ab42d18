import { type FetchJsonOptions, fetchJson } from './fetch-json.ts';

/**
 * Finds where an issuer publishes its keys: authorization server metadata (RFC 8414 §3), else OpenID Connect Discovery.
 * The metadata must name exactly the issuer that was asked for (RFC 8414 §3.3).
 */
export async function discoverJwksUri(issuer: string, options: FetchJsonOptions): Promise<string> {
  let failure: unknown;
  for (const url of metadataUrls(issuer)) {
    let metadata: Readonly<Record<string, unknown>>;
    try {
      metadata = await fetchJson(url, options);
    } catch (error) {
      if (options.signal.aborted) throw error;
      failure = error;
      continue;
    }
    if (metadata['issuer'] !== issuer) throw new Error(`${url} is the metadata of another issuer`);
    const uri = metadata['jwks_uri'];
    if (typeof uri !== 'string') throw new Error(`${url} names no jwks_uri`);
    return uri;
  }
  throw failure;
}

function metadataUrls(issuer: string): readonly string[] {
  const url = new URL(issuer);
  const path = url.pathname.replace(/\/$/, '');
  return [
    `${url.origin}/.well-known/oauth-authorization-server${path}`,
    `${url.origin}${path}/.well-known/openid-configuration`,
  ];
}

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|\[::1\]|localhost)$/;

/** @throws TypeError unless `value` is an absolute https URL (or http, where allowed) without credentials and fragment */
export function assertFetchable(
  name: string,
  value: string,
  http: 'refused' | 'loopback' | 'allowed' = 'refused',
): void {
  let url: URL;
  try {
    url = new URL(value);
  } catch {
    throw new TypeError(`${name} must be a URL`);
  }
  const mayBeHttp = http === 'allowed' || (http === 'loopback' && LOOPBACK.test(url.hostname));
  if (url.protocol !== 'https:' && !(mayBeHttp && url.protocol === 'http:'))
    throw new TypeError(`${name} must be an https URL`);
  if (url.username !== '' || url.password !== '' || url.hash !== '')
    throw new TypeError(`${name} must be a URL without credentials and fragment`);
}
