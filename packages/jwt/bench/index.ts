import {
  verify as cryptoVerify,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
} from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { JwtVerifier as AwsJwtVerifier } from 'aws-jwt-verify';
import { createVerifier } from 'fast-jwt';
import { createLocalJWKSet, exportJWK, type JWK, jwtVerify, SignJWT } from 'jose';
import { createJwtVerifier } from '../src/index.ts';

const issuer = 'https://auth.example.com';
const audience = 'https://api.example.com';

/** Many short turns: the margins are narrow, and machines have moods. */
const ROUNDS = 27;

interface Pair {
  readonly algorithm: 'RS256' | 'ES256' | 'EdDSA';
  readonly hash: string | null;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

const pairs: readonly Pair[] = [
  {
    algorithm: 'RS256',
    hash: 'sha256',
    ...generateKeyPairSync('rsa', { modulusLength: 2048 }),
  },
  { algorithm: 'ES256', hash: 'sha256', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) },
  { algorithm: 'EdDSA', hash: null, ...generateKeyPairSync('ed25519') },
];

function mint({ algorithm, privateKey }: Pair): Promise<string> {
  return new SignJWT({ client_id: 'checkout', scope: 'orders:read orders:write payments:write' })
    .setProtectedHeader({ alg: algorithm, typ: 'at+jwt', kid: 'key-1' })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject('user-1234')
    .setJti(randomUUID())
    .setIssuedAt()
    .setExpirationTime('15m')
    .sign(privateKey);
}

/** What cannot be avoided: decode, check the signature, parse twice. No rule is applied. */
function bare({ algorithm, hash, publicKey }: Pair, token: string): () => unknown {
  const key =
    algorithm === 'ES256' ? { key: publicKey, dsaEncoding: 'ieee-p1363' as const } : publicKey;
  return () => {
    const [header = '', payload = '', signature = ''] = token.split('.');
    const data = Buffer.from(`${header}.${payload}`, 'latin1');
    if (!cryptoVerify(hash, data, key, Buffer.from(signature, 'base64url')))
      throw new Error('bad signature');
    return [
      JSON.parse(Buffer.from(header, 'base64url').toString()),
      JSON.parse(Buffer.from(payload, 'base64url').toString()),
    ];
  };
}

async function uncached(pair: Pair): Promise<void> {
  const token = await mint(pair);
  const jwk: JWK = { ...(await exportJWK(pair.publicKey)), kid: 'key-1', alg: pair.algorithm };
  const jwks = { keys: [{ ...jwk, use: 'sig' }] };
  const algorithms = [pair.algorithm];
  const pem = pair.publicKey.export({ type: 'spki', format: 'pem' }).toString();

  const ours = createJwtVerifier({ issuer: { issuer, jwks }, audience, algorithms, cache: false });
  const fast = createVerifier({
    key: pem,
    algorithms,
    allowedIss: issuer,
    allowedAud: audience,
    cache: false,
  });
  const local = createLocalJWKSet(jwks);
  const options = { issuer, audience, algorithms, typ: 'at+jwt' };

  const results = await compare(
    {
      'countersign verifyNow': () => ours.verifyNow(token),
      'countersign verify': () => ours.verify(token),
      'bare crypto.verify + JSON.parse': bare(pair, token),
      'fast-jwt, sync': () => fast(token),
      'jose jwtVerify, local key set': () => jwtVerify(token, local, options),
      ...(pair.algorithm === 'EdDSA' ? {} : aws(token, jwks)),
    },
    ROUNDS,
  );
  report(`${pair.algorithm}, every signature checked`, results);
  const us = 'countersign verify';
  if (pair.algorithm === 'RS256') {
    const bareRatio = ratio(results, us, 'bare crypto.verify + JSON.parse');
    expectAtLeast('vs bare crypto.verify + JSON.parse (1/1.1)', bareRatio, 0.909);
    expectAtLeast('vs fast-jwt, sync', ratio(results, us, 'fast-jwt, sync'), 1);
    expectAtLeast('vs jose', ratio(results, us, 'jose jwtVerify, local key set'), 1.8);
  }
}

function aws(token: string, jwks: { keys: JWK[] }): Record<string, () => unknown> {
  const verifier = AwsJwtVerifier.create({ issuer, audience, jwksUri: `${issuer}/jwks` });
  verifier.cacheJwks(jwks as Parameters<typeof verifier.cacheJwks>[0]);
  return { 'aws-jwt-verify, sync': () => verifier.verifySync(token) };
}

async function cached(pair: Pair): Promise<void> {
  const token = await mint(pair);
  const jwks = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'key-1' }] };
  const pem = pair.publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const ours = createJwtVerifier({ issuer: { issuer, jwks }, audience });
  const fast = createVerifier({ key: pem, algorithms: [pair.algorithm], cache: true });
  const bytes = Buffer.from(token, 'latin1');
  /** A text of its own for each call, as every request brings one: its hash is not known beforehand. */
  const received = (): string => bytes.toString('latin1');

  const results = await compare({
    'countersign verify': () => ours.verify(token),
    'countersign verifyNow': () => ours.verifyNow(token),
    'fast-jwt, hashed cache': () => fast(token),
    'countersign verify, text just received': () => ours.verify(received()),
    'fast-jwt, hashed cache, text just received': () => fast(received()),
  });
  report('RS256, seen before', results);
  const us = 'countersign verify';
  expectAtLeast('vs fast-jwt, hashed cache', ratio(results, us, 'fast-jwt, hashed cache'), 8);
  const mine = results.find(({ name }) => name === us);
  expectAtLeast('million verifications per second', (mine?.callsPerSecond ?? 0) / 1e6, 1);
}

/** 10,000 tokens twice, then 40,000 more: what the cache holds stays bounded. */
async function memory(pair: Pair): Promise<void> {
  const jwks = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'key-1' }] };
  const ours = createJwtVerifier({
    issuer: { issuer, jwks },
    audience,
    algorithms: [pair.algorithm],
  });
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heap = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const before = heap();
  const held: number[] = [];
  for (let round = 0; round < 5; round += 1) {
    const tokens: string[] = [];
    for (let each = 0; each < 10_000; each += 1) tokens.push(await mint(pair));
    for (const token of tokens) await ours.verify(token);
    const started = performance.now();
    for (const token of tokens) await ours.verify(token);
    const repeatUs = ((performance.now() - started) / tokens.length) * 1000;
    tokens.length = 0;
    const heldMb = (heap() - before) / 1e6;
    held.push(heldMb);
    console.log(
      `  after ${(round + 1) * 10_000} distinct tokens: ${heldMb.toFixed(1)} MB held, ${repeatUs.toFixed(2)} µs each when repeated`,
    );
  }
  const [first = 0] = held;
  expectAtLeast(
    'memory after the first 10,000 against the most ever',
    first / Math.max(...held),
    0.9,
  );
}

for (const pair of pairs) await uncached(pair);
const [rsa, , ed25519] = pairs;
if (rsa) await cached(rsa);
console.log('\nDistinct valid tokens, the default cache of 10,000');
if (ed25519) await memory(ed25519);
