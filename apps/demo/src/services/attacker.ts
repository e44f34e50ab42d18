import { createHmac, createPublicKey, type JsonWebKey } from 'node:crypto';
import { Agent, request } from 'undici';
import { serve } from '../process.ts';

/** What the attacker has got hold of. */
export interface AttackerConfiguration {
  readonly payments: string;
  readonly webhooks: string;
  readonly issuer: string;
  readonly audience: string;
  /** The attacker is a customer too: it has a key of its own. */
  readonly ownKey: string;
  /** A token that somebody leaked, valid still, for another service of the same issuer. */
  readonly tokenForOther: string;
  /** A webhook as it went over the wire, and one that was recorded longer ago than five minutes. */
  readonly captured: CapturedWebhook;
  readonly recorded: CapturedWebhook;
  /** The id of a payment of somebody else. */
  readonly victimsPayment: string;
}

/** A webhook as it went over the wire. */
export interface CapturedWebhook {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The status that each attack was answered with. */
export type Attacks = Readonly<Record<string, number>>;

/** The attacker: tries what attackers try and reports what it got. */
serve<AttackerConfiguration>(async (target) => {
  const agent = new Agent();
  const send = async (
    method: 'GET' | 'POST',
    url: string,
    headers: Readonly<Record<string, string>> = {},
    body: string | null = null,
  ): Promise<number> => {
    const answer = await request(url, { dispatcher: agent, method, headers: { ...headers }, body });
    await answer.body.dump();
    return answer.statusCode;
  };
  const pay = (authorization: string) =>
    send(
      'POST',
      `${target.payments}/payments`,
      { authorization, 'content-type': 'application/json', 'idempotency-key': '"stolen"' },
      JSON.stringify({ amount: 1, currency: 'EUR' }),
    );
  const post = ({ headers, body }: CapturedWebhook) =>
    send('POST', target.webhooks, { ...headers, 'content-type': 'application/json' }, body);
  const claims = (): object => {
    const now = Math.floor(Date.now() / 1000);
    return {
      iss: target.issuer,
      aud: target.audience,
      sub: 'admin',
      client_id: 'admin',
      jti: 'forged',
      scope: 'payments:read payments:write',
      iat: now,
      exp: now + 300,
    };
  };
  const ownHeaders = { authorization: `ApiKey ${target.ownKey}` };

  const attacks: Readonly<Record<string, () => Promise<number>>> = {
    'alg none': () => pay(`Bearer ${encode({ alg: 'none', typ: 'at+jwt' })}.${encode(claims())}.`),
    'HS256 signed with the public key': async () =>
      pay(`Bearer ${confused(await publicKey(target.issuer, agent), claims())}`),
    'a token for another service': () => pay(`Bearer ${target.tokenForOther}`),
    'a key in the URL': () =>
      send('GET', `${target.payments}/payments/${target.victimsPayment}?api_key=${target.ownKey}`),
    'an unsigned webhook': () => post({ headers: {}, body: target.captured.body }),
    'an altered webhook': () =>
      post({ ...target.captured, body: target.captured.body.replace('4200', '1') }),
    'a webhook from six minutes ago': () => post(target.recorded),
    "another tenant's payment": () =>
      send('GET', `${target.payments}/payments/${target.victimsPayment}`, ownHeaders),
    'a webhook endpoint on a private address': () =>
      send(
        'POST',
        `${target.payments}/webhook-endpoints`,
        { ...ownHeaders, 'content-type': 'application/json' },
        JSON.stringify({ url: 'https://169.254.169.254/latest/meta-data' }),
      ),
    // Last, because it leaves the attacker's key without anything to spend.
    'a burst': async () => {
      const url = `${target.payments}/payments/${target.victimsPayment}`;
      const statuses = await Promise.all(
        Array.from({ length: 100 }, () => send('GET', url, ownHeaders)),
      );
      return Math.max(...statuses);
    },
  };

  return {
    url: '',
    questions: {
      attack: async (): Promise<Attacks> => {
        const outcomes: Record<string, number> = {};
        for (const [name, attack] of Object.entries(attacks)) outcomes[name] = await attack();
        return outcomes;
      },
    },
    close: () => agent.close(),
  };
});

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** The oldest trick: a verifier that lets the token choose takes the public RSA key for an HMAC secret. */
function confused(publicKeyPem: string, claims: object): string {
  const input = `${encode({ alg: 'HS256', typ: 'at+jwt' })}.${encode(claims)}`;
  return `${input}.${createHmac('sha256', publicKeyPem).update(input).digest('base64url')}`;
}

async function publicKey(issuer: string, dispatcher: Agent): Promise<string> {
  const metadata = await request(`${issuer}/.well-known/openid-configuration`, { dispatcher });
  const { jwks_uri } = (await metadata.body.json()) as { jwks_uri: string };
  const answer = await request(jwks_uri, { dispatcher });
  const { keys } = (await answer.body.json()) as { keys: JsonWebKey[] };
  const key = keys.find(({ kty }) => kty === 'RSA');
  if (!key) throw new Error('the issuer publishes no RSA key');
  return createPublicKey({ key, format: 'jwk' }).export({ type: 'spki', format: 'pem' }).toString();
}
