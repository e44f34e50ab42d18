import { createLocalJWKSet, decodeJwt, type JSONWebKeySet, jwtVerify, SignJWT } from 'jose';
import { errors, type Provider } from 'oidc-provider';
import { TOKEN_EXCHANGE } from './oauth-clients.ts';
import type { SigningKey } from './oauth-keys.ts';

const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const PARAMETERS = [
  'subject_token',
  'subject_token_type',
  'actor_token',
  'actor_token_type',
  'requested_token_type',
  'resource',
  'audience',
  'scope',
];

/** Token exchange (RFC 8693), which oidc-provider leaves to its users: own JWT access tokens in, a JWT access token out. */
export function registerTokenExchange(
  provider: Provider,
  keys: { jwks: () => JSONWebKeySet; current: () => SigningKey },
  lifetimeSeconds: number,
): void {
  const claimsOf = async (token: unknown) => {
    try {
      const { payload } = await jwtVerify(String(token), createLocalJWKSet(keys.jwks()), {
        issuer: provider.issuer,
        typ: 'at+jwt',
      });
      return payload;
    } catch {
      throw new errors.InvalidRequest('the presented token is not valid');
    }
  };

  provider.registerGrantType<Record<string, string | undefined>>(
    TOKEN_EXCHANGE,
    async (ctx) => {
      const { params, client } = ctx.oidc;
      if (params['subject_token_type'] !== ACCESS_TOKEN) {
        throw new errors.InvalidRequest('subject_token_type must be an access token');
      }
      if (Boolean(params['actor_token']) !== Boolean(params['actor_token_type'])) {
        throw new errors.InvalidRequest('actor_token and actor_token_type go together');
      }
      const subject = await claimsOf(params['subject_token']);
      const actor = params['actor_token'] ? await claimsOf(params['actor_token']) : undefined;
      const resource = params.resource ?? params['audience'];
      if (!resource) throw new errors.InvalidTarget();
      const { privateKey, kid } = keys.current();
      const scope = params.scope ?? (subject['scope'] as string | undefined);
      const token = await new SignJWT({
        client_id: client.clientId,
        jti: crypto.randomUUID(),
        ...(scope ? { scope } : {}),
        ...(actor ? { act: { sub: actor.sub, client_id: actor['client_id'] } } : {}),
      })
        .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', kid })
        .setIssuer(provider.issuer)
        .setSubject(String(subject.sub))
        .setAudience(resource)
        .setIssuedAt(new Date())
        .setExpirationTime(new Date(Date.now() + lifetimeSeconds * 1000))
        .sign(privateKey);
      ctx.body = {
        access_token: token,
        issued_token_type: ACCESS_TOKEN,
        token_type: 'Bearer',
        expires_in: lifetimeSeconds,
        ...(decodeJwt(token)['scope'] ? { scope } : {}),
      };
    },
    PARAMETERS,
  );
}
