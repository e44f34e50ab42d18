import { createHash, randomUUID, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { assertKnown } from '@countersign/options';
import { SignJWT } from 'jose';
import type { ClientAuth as Authenticate } from 'oauth4webapi';
import { ClientSecretBasic, ClientSecretPost } from 'openid-client';
import { publicJwk, thumbprint } from './dpop.ts';
import { OAuthError } from './errors.ts';
import { importPrivateKey, type PrivateKeyInput, signatureAlgorithm } from './private-key.ts';

/** How a client proves to the authorization server who it is. Made by the functions of this file. */
export interface ClientAuth {
  readonly method:
    | 'client_secret_basic'
    | 'client_secret_post'
    | 'private_key_jwt'
    | 'tls_client_auth'
    | 'workload_identity';
  /** Names the credential without revealing it: a key id or a thumbprint. Part of the cache key. */
  identity(): Promise<string>;
  /** The credential for one attempt, fresh each time. */
  authenticator(now: () => number): Promise<Authenticate>;
  /** The certificate to present when connecting (RFC 8705). A function, so that nothing shows the key. */
  readonly tls?: () => TlsCredential;
}

export interface TlsCredential {
  readonly cert: string;
  readonly key: string;
  /** Trusted instead of the system's certificate authorities. */
  readonly ca?: string;
}

/** A value, or where to get it when it is needed: for secrets that rotate. */
export type Provided<T> = T | (() => T | Promise<T>);

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** The secret in the `Authorization` header, form-encoded as RFC 6749 §2.3.1 asks. */
export function clientSecretBasic(secret: Provided<string>): ClientAuth {
  return secretAuth('client_secret_basic', secret, ClientSecretBasic);
}

/** The secret in the form. For servers that do not do better. */
export function clientSecretPost(secret: Provided<string>): ClientAuth {
  return secretAuth('client_secret_post', secret, ClientSecretPost);
}

function secretAuth(
  method: 'client_secret_basic' | 'client_secret_post',
  secret: Provided<string>,
  build: (secret: string) => Authenticate,
): ClientAuth {
  if (typeof secret !== 'function' && !isText(secret)) {
    throw new TypeError('secret must be a non-empty string or a function that returns one');
  }
  return {
    method,
    // A hash of the secret would let whoever reads the store try secrets against it.
    identity: async () => method,
    authenticator: async () => {
      const value = await provide(secret, 'the client secret');
      if (!isText(value))
        throw new OAuthError('ERR_OAUTH_CREDENTIAL', 'the client secret is empty');
      return build(value);
    },
  };
}

export interface PrivateKeyJwtOptions {
  /** `kid` of the assertions; default the key's RFC 7638 thumbprint. */
  readonly keyId?: string;
  /** Default: what the key's type implies; PS256 for RSA. */
  readonly algorithm?: string;
}

/**
 * A signed assertion (RFC 7523, and its update for client authentication: `aud` is the issuer alone, `typ` is
 * `client-authentication+jwt`). Every attempt has an assertion of its own, valid for 60 seconds.
 */
export function privateKeyJwt(
  key: Provided<PrivateKeyInput>,
  options: PrivateKeyJwtOptions = {},
): ClientAuth {
  assertKnown(options, { keyId: true, algorithm: true });
  const prepare = (input: PrivateKeyInput) => {
    const privateKey = importPrivateKey(input, 'key');
    const alg = signatureAlgorithm(privateKey, 'key', options.algorithm);
    return { privateKey, alg, kid: options.keyId ?? thumbprint(publicJwk(privateKey)) };
  };
  const fixed = typeof key === 'function' ? undefined : prepare(key);
  const current = async () =>
    fixed ??
    provide(
      async () => prepare(await (key as () => PrivateKeyInput | Promise<PrivateKeyInput>)()),
      'the client key',
    );
  return {
    method: 'private_key_jwt',
    identity: async () => (await current()).kid,
    authenticator: async (now) => {
      const { privateKey, alg, kid } = await current();
      return async (server, client, body) => {
        const nowSeconds = Math.floor(now() / 1000);
        const assertion = await new SignJWT()
          .setProtectedHeader({ alg, kid, typ: 'client-authentication+jwt' })
          .setIssuer(client.client_id)
          .setSubject(client.client_id)
          .setAudience(server.issuer)
          .setJti(randomUUID())
          .setIssuedAt(nowSeconds)
          .setExpirationTime(nowSeconds + 60)
          .sign(privateKey);
        setAssertion(body, client.client_id, assertion);
      };
    },
  };
}

/** The client's certificate, at the endpoints the server has for it (RFC 8705). PEM. */
export function mutualTls(credential: TlsCredential): ClientAuth {
  let fingerprint: string;
  try {
    const { raw } = new X509Certificate(credential.cert);
    fingerprint = createHash('sha256').update(raw).digest('base64url');
  } catch {
    throw new TypeError('cert must be a certificate in PEM');
  }
  importPrivateKey(credential.key, 'key');
  return {
    method: 'tls_client_auth',
    identity: async () => fingerprint,
    authenticator: async () => (_server, client, body) => {
      body.set('client_id', client.client_id);
    },
    tls: () => credential,
  };
}

/** An assertion that the platform keeps fresh in a file, such as a projected service account token (RFC 7523). */
export function workloadIdentity(options: { readonly tokenFile: string }): ClientAuth {
  assertKnown(options, { tokenFile: true });
  const { tokenFile } = options;
  if (!isText(tokenFile)) throw new TypeError('tokenFile must be the path of a file');
  return {
    method: 'workload_identity',
    identity: async () => 'workload_identity',
    // Read for each attempt: requests are rare, and a projected token is replaced while the process runs.
    authenticator: async () => {
      const assertion = (
        await provide(() => readFile(tokenFile, 'utf8'), 'the workload identity token')
      ).trim();
      if (!isText(assertion)) {
        throw new OAuthError('ERR_OAUTH_CREDENTIAL', 'the workload identity token file is empty');
      }
      return (_server, client, body) => setAssertion(body, client.client_id, assertion);
    },
  };
}

function setAssertion(body: URLSearchParams, clientId: string, assertion: string): void {
  body.set('client_id', clientId);
  body.set('client_assertion_type', ASSERTION_TYPE);
  body.set('client_assertion', assertion);
}

/** @throws OAuthError `ERR_OAUTH_CREDENTIAL` when the provider fails. Its error stays in `cause`. */
export async function provide<T>(source: Provided<T>, what: string): Promise<T> {
  if (typeof source !== 'function') return source;
  try {
    return await (source as () => T | Promise<T>)();
  } catch (cause) {
    throw new OAuthError('ERR_OAUTH_CREDENTIAL', `${what} could not be read`, { cause });
  }
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value.trim() !== '';
}
