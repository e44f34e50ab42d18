/** `node bench/index.ts`: what a token costs here and with peers that users come from, in one run. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { accessToken, clientCredentials, clientSecretBasic } from '@countersign/oauth';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import {
  allowInsecureRequests,
  ClientSecretBasic,
  Configuration,
  clientCredentialsGrant,
} from 'openid-client';
import { ClientCredentials } from 'simple-oauth2';
import { Pool } from 'undici';
import { benchFleet } from './fleet.ts';

const SECRET = 'a-client-secret-for-the-benchmark';
let requests = 0;
/** Answers at once: what is measured is the clients. */
const server = createServer((req, res) => {
  requests += 1;
  req.resume();
  res.setHeader('content-type', 'application/json');
  res.end('{"access_token":"opaque-token","token_type":"Bearer","expires_in":600}');
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const metadata = { issuer, token_endpoint: `${issuer}/token` };

const newSource = () =>
  clientCredentials({
    server: metadata,
    allowInsecureLoopback: true,
    clientId: 'bench',
    clientAuth: clientSecretBasic(SECRET),
    scope: 'orders:read',
  });
const source = newSource();
const simple = new ClientCredentials({
  client: { id: 'bench', secret: SECRET },
  auth: { tokenHost: issuer, tokenPath: '/token' },
});
const openid = new Configuration(metadata, 'bench', undefined, ClientSecretBasic(SECRET));
allowInsecureRequests(openid);

await source.getToken();
const simpleToken = await simple.getToken({ scope: 'orders:read' });
const cached = await compare({
  'getToken(), cached': () => void source.getToken(),
  'await getToken(), cached': () => source.getToken(),
  'await getToken({ scope }), cached': () => source.getToken({ scope: 'orders:write' }),
  'simple-oauth2 token.expired(60)': () => simpleToken.expired(60),
});
report('A token that is there', cached);
const cachedNs = cached.find(({ name }) => name === 'getToken(), cached')?.nsPerCall ?? Infinity;
expectAtLeast('1 µs over a cached getToken()', 1000 / cachedNs, 1);
const scopedNs =
  cached.find(({ name }) => name === 'await getToken({ scope }), cached')?.nsPerCall ?? Infinity;
expectAtLeast('1 µs over a cached getToken({ scope })', 1000 / scopedNs, 1);
expectAtLeast(
  "simple-oauth2's check over a cached getToken()",
  ratio(cached, 'getToken(), cached', 'simple-oauth2 token.expired(60)'),
  1,
);

const fresh = await compare(
  {
    'getToken({ forceRenewal: true })': () => source.getToken({ forceRenewal: true }),
    'simple-oauth2 getToken()': () => simple.getToken({ scope: 'orders:read' }),
    'openid-client clientCredentialsGrant()': () =>
      clientCredentialsGrant(openid, { scope: 'orders:read' }),
  },
  3,
);
report('One token request', fresh);
expectAtLeast(
  'against openid-client',
  ratio(fresh, 'getToken({ forceRenewal: true })', 'openid-client clientCredentialsGrant()'),
  0.8,
);

const pool = new Pool(issuer);
const withToken = pool.compose(accessToken(source));
const bearer = { authorization: `Bearer ${(await source.getToken()).value}` };
const call = async (dispatcher: Pick<Pool, 'request'>, headers = {}) =>
  (await dispatcher.request({ path: '/', method: 'GET', headers })).body.dump();
const attached = await compare(
  {
    'undici request with an Authorization header': () => call(pool, bearer),
    'undici request with accessToken(source)': () => call(withToken),
  },
  // Many short turns: a connection on a busy machine is never as fast twice.
  12,
);
report('A request on loopback', attached);
expectAtLeast(
  'accessToken(source) against a fixed header',
  ratio(
    attached,
    'undici request with accessToken(source)',
    'undici request with an Authorization header',
  ),
  0.8,
);

console.log('\nCold callers at once, and the requests they cause');
const storm = async (name: string, callers: number, ask: () => Promise<unknown>) => {
  requests = 0;
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: callers }, ask));
  const ms = Math.round(performance.now() - startedAt);
  console.log(
    `  ${name.padEnd(48)} ${callers} callers ${String(requests).padStart(6)} requests ${String(ms).padStart(6)} ms`,
  );
  return requests;
};
const cold = newSource();
const ours = await storm('@countersign/oauth', 10_000, () => cold.getToken());
const theirs = await storm('simple-oauth2', 1000, () => simple.getToken({}));
await storm('openid-client', 1000, () => clientCredentialsGrant(openid));
expectAtLeast("simple-oauth2's requests over ours", theirs / ours, 1000);

await pool.destroy();
server.closeAllConnections();
server.close();
await benchFleet();
