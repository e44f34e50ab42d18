import { createHash, generateKeyPair, type KeyObject, randomUUID } from 'node:crypto';
import { promisify } from 'node:util';
import { exportJWK, type JWK, SignJWT } from 'jose';
import type { KeyClient } from './oauth-clients.ts';

export interface SigningKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
}

/** RS256, the algorithm every resource server must know (RFC 9068 §2.1). */
export async function newSigningKey(): Promise<SigningKey & { jwk: JWK }> {
  const { privateKey } = await promisify(generateKeyPair)('rsa', { modulusLength: 2048 });
  const kid = randomUUID();
  const jwk = { ...(await exportJWK(privateKey)), kid, alg: 'RS256', use: 'sig' };
  return { kid, privateKey, jwk };
}

/** A key as others may see it. */
export function publicPart({ kty, kid, alg, use, n, e, crv, x, y }: JWK): JWK {
  const members = Object.entries({ kty, kid, alg, use, n, e, crv, x, y });
  return Object.fromEntries(members.filter(([, value]) => value !== undefined)) as unknown as JWK;
}

/** A DPoP proof (RFC 9449 §4.2) for a request of the testkit's own. */
export async function dpopProof(
  privateKey: KeyObject,
  url: string,
  nonce?: string,
  request: { method?: string; accessToken?: string } = {},
): Promise<string> {
  const { accessToken } = request;
  return new SignJWT({
    htm: request.method ?? 'POST',
    htu: url,
    jti: randomUUID(),
    ...(nonce ? { nonce } : {}),
    ...(accessToken ? { ath: createHash('sha256').update(accessToken).digest('base64url') } : {}),
  })
    .setProtectedHeader({
      alg: 'ES256',
      typ: 'dpop+jwt',
      jwk: publicPart(await exportJWK(privateKey)),
    })
    .setIssuedAt(new Date())
    .sign(privateKey);
}

/** The form fields of `private_key_jwt` (RFC 7523). */
export async function clientAssertion(
  client: KeyClient,
  issuer: string,
): Promise<Record<string, string>> {
  const assertion = await new SignJWT({ jti: randomUUID() })
    .setProtectedHeader({ alg: 'ES256', kid: client.keyId, typ: 'client-authentication+jwt' })
    .setIssuer(client.clientId)
    .setSubject(client.clientId)
    .setAudience(issuer)
    .setIssuedAt(new Date())
    .setExpirationTime(new Date(Date.now() + 60_000))
    .sign(client.privateKey);
  return {
    client_assertion: assertion,
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  };
}
