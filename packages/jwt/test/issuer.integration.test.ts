import { generateKeyPairSync } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { type FaultProxy, startFaultProxy } from '@countersign/testkit/fault-proxy';
import { dpopProof, type OAuthServer, startOAuthServer } from '@countersign/testkit/oauth-server';
import { SignJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { jwtGuard } from '../src/guard.ts';
import {
  createJwtVerifier,
  type DpopOptions,
  dpopNonces,
  type JwtVerifier,
  type JwtVerifierOptions,
  type KeysOptions,
} from '../src/index.ts';
import { refusal } from './refusal.ts';

const audience = 'https://api.example.com';

let server: OAuthServer;
let aheadMs: number;
const closing: (() => void | Promise<void>)[] = [];

beforeEach(async () => {
  aheadMs = 0;
  server = await startOAuthServer();
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await server.stop();
});

function verifier(options: Partial<JwtVerifierOptions> = {}, keys: KeysOptions = {}): JwtVerifier {
  const jwt = createJwtVerifier({
    issuer: server.issuer,
    audience,
    now: () => Date.now() + aheadMs,
    keys: { allowInsecureLoopback: true, ...keys },
    ...options,
  } as JwtVerifierOptions) as JwtVerifier;
  closing.push(() => jwt.close());
  return jwt;
}

/** Resolves with the next message of a channel. */
function next(name: string): Promise<unknown> {
  return new Promise((resolve) => {
    const listen = (message: unknown): void => {
      unsubscribe(name, listen);
      resolve(message);
    };
    subscribe(name, listen);
  });
}

describe('tokens of a real authorization server', () => {
  it('are accepted, their keys found by discovery', async () => {
    const { claims, header } = await verifier().verify(await server.mintAccessToken());
    expect(header).toMatchObject({ typ: 'at+jwt', alg: 'RS256', kid: server.signingKey.kid });
    expect(claims).toMatchObject({ iss: server.issuer, aud: audience });
    expect(claims.client_id).toBe(server.clients.service.clientId);
  });

  it('are refused when they are meant for another API', async () => {
    const text = await server.mintAccessToken({ resource: 'https://other.example.com' });
    await expect(verifier().verify(text)).rejects.toThrow(refusal('ERR_JWT_AUDIENCE'));
  });

  it('are refused when somebody else signed them', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const forged = await new SignJWT({ client_id: 'x', jti: 'x' })
      .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', kid: server.signingKey.kid })
      .setIssuer(server.issuer)
      .setAudience(audience)
      .setSubject('x')
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(privateKey);
    await expect(verifier().verify(forged)).rejects.toThrow(refusal('ERR_JWT_SIGNATURE'));
  });

  it('cost one discovery and one key set, however many come at once', async () => {
    const jwt = verifier();
    const texts = await Promise.all(Array.from({ length: 20 }, () => server.mintAccessToken()));
    server.forget();
    await Promise.all(texts.map((text) => jwt.verify(text)));
    expect(server.count('jwks')).toBe(1);
  });
});

describe('when the issuer rotates its keys', () => {
  it('accepts tokens of the new key at once, and of the old one while it is published', async () => {
    const jwt = verifier();
    const before = await server.mintAccessToken();
    await jwt.verify(before);
    await server.rotateKeys();
    await expect(jwt.verify(await server.mintAccessToken())).resolves.toBeDefined();
    await expect(jwt.verify(before)).resolves.toBeDefined();
  });

  it('no longer trusts a key that was removed, not even for tokens seen before', async () => {
    const jwt = verifier();
    const before = await server.mintAccessToken();
    await jwt.verify(before);
    await server.rotateKeys({ keepOld: false });
    await expect(jwt.verify(before)).resolves.toBeDefined();
    // 80 % of the default maxAgeSeconds: the hit itself starts the refresh.
    aheadMs = 480_000;
    const refreshed = next('countersign:jwt:keys-refreshed');
    await jwt.verify(before);
    expect(await refreshed).toMatchObject({ reason: 'age', changed: true });
    await expect(jwt.verify(before)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
  });

  it('asks the issuer once for a flood of keys that do not exist', async () => {
    const jwt = verifier();
    await jwt.verify(await server.mintAccessToken());
    server.forget();
    const flood = await Promise.all(
      Array.from({ length: 100 }, (_, each) =>
        new SignJWT({})
          .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', kid: `none-${each}` })
          .setIssuer(server.issuer)
          .sign(server.signingKey.privateKey),
      ),
    );
    for (const text of flood)
      await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
    expect(server.count('jwks')).toBe(1);
  });
});

describe('when the issuer cannot be reached', () => {
  let proxy: FaultProxy;

  beforeEach(async () => {
    proxy = await startFaultProxy({ port: server.port });
    closing.push(() => proxy.stop());
  });

  function behindProxy(keys: KeysOptions = {}): JwtVerifier {
    const jwksUri = `http://127.0.0.1:${proxy.port}/jwks`;
    return verifier({ issuer: { issuer: server.issuer, jwksUri } }, keys);
  }

  it('refuses at first, and recovers without a restart', async () => {
    const jwt = behindProxy();
    const text = await server.mintAccessToken();
    proxy.refuse();
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    await proxy.heal();
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    aheadMs += 1000;
    await expect(jwt.verify(text)).resolves.toBeDefined();
  });

  it.each([
    ['refuses connections', () => proxy.refuse()],
    ['resets them half way', () => proxy.set('toClient', { resetAfterBytes: 200 })],
  ])('goes on with the keys it has when the network %s', async (_, fault) => {
    const jwt = behindProxy();
    await jwt.verify(await server.mintAccessToken());
    const text = await server.mintAccessToken();
    fault();
    proxy.reset();
    aheadMs = 500_000;
    const failed = next('countersign:jwt:keys-failed');
    await expect(jwt.verify(text)).resolves.toBeDefined();
    expect(await failed).toMatchObject({ reason: 'age', issuer: server.issuer });
    await expect(jwt.verify(text)).resolves.toBeDefined();
  });

  it('lets nobody hang when the network swallows everything', async () => {
    const jwt = behindProxy({ timeoutMs: 300, maxWaitMs: 20, maxAgeSeconds: 60 });
    const text = await server.mintAccessToken();
    await jwt.verify(text);
    proxy.set('both', { blackhole: true });
    aheadMs = 120_000;
    const failed = next('countersign:jwt:keys-failed');
    const all = await Promise.all(Array.from({ length: 100 }, () => jwt.verify(text)));
    expect(all).toHaveLength(100);
    expect(proxy.accepted).toBeLessThanOrEqual(2);
    await failed;
    await expect(jwt.verify(text)).resolves.toBeDefined();
  });

  it('gives up on an answer that is endless', async () => {
    const endless = createServer((_, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const more = (): void => {
        while (response.write(Buffer.alloc(65_536, ' '))) if (response.destroyed) return;
        response.once('drain', more);
      };
      more();
    });
    const port = await listen(endless);
    const jwksUri = `http://127.0.0.1:${port}/jwks`;
    const jwt = verifier({ issuer: { issuer: server.issuer, jwksUri } });
    const error = await jwt.verify(await server.mintAccessToken()).catch((reason) => reason);
    expect(error).toMatchObject({ code: 'ERR_JWT_KEYS_UNAVAILABLE' });
    expect(error.cause.message).toMatch(/more than 262144 bytes/);
  });

  it('follows no redirect', async () => {
    const redirecting = createServer((_, response) => {
      response.writeHead(302, { location: `${server.issuer}/jwks` }).end();
    });
    const jwksUri = `http://127.0.0.1:${await listen(redirecting)}/jwks`;
    const jwt = verifier({ issuer: { issuer: server.issuer, jwksUri } });
    await expect(jwt.verify(await server.mintAccessToken())).rejects.toThrow(
      refusal('ERR_JWT_KEYS_UNAVAILABLE'),
    );
    expect(server.count('jwks')).toBe(0);
  });
});

describe('DPoP with a real authorization server and a real API', () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

  async function api(dpop: DpopOptions): Promise<string> {
    const http = createServer();
    const baseUrl = `http://127.0.0.1:${await listen(http)}`;
    const guards = chain().use('principal', jwtGuard(verifier({ dpop }), { dpop: { baseUrl } }));
    http.on(
      'request',
      node(guards, (_request, response, { principal }) => {
        response.end(principal.clientId);
      }),
    );
    return `${baseUrl}/orders`;
  }

  function call(
    url: string,
    accessToken: string,
    scheme: string,
    proof?: string,
  ): Promise<Response> {
    return fetch(url, {
      headers: { authorization: `${scheme} ${accessToken}`, ...(proof ? { dpop: proof } : {}) },
    });
  }

  it('accepts a bound token with a fresh proof, once', async () => {
    const url = await api({});
    const accessToken = await server.mintAccessToken({ dpop: key });
    const proof = await dpopProof(key, url, undefined, { method: 'GET', accessToken });
    const first = await call(url, accessToken, 'DPoP', proof);
    expect([first.status, await first.text()]).toEqual([200, server.clients.service.clientId]);
    const again = await call(url, accessToken, 'DPoP', proof);
    expect(again.status).toBe(401);
    expect(again.headers.get('www-authenticate')).toContain('error="invalid_dpop_proof"');
  });

  it('demands a nonce, takes it, and refuses the stolen token as Bearer', async () => {
    const url = await api({ nonces: dpopNonces({ secrets: [Buffer.alloc(32, 1)] }) });
    const accessToken = await server.mintAccessToken({ dpop: key });
    const make = (nonce?: string) => dpopProof(key, url, nonce, { method: 'GET', accessToken });
    const first = await call(url, accessToken, 'DPoP', await make());
    expect(first.status).toBe(401);
    expect(first.headers.get('www-authenticate')).toContain('error="use_dpop_nonce"');
    const nonce = first.headers.get('dpop-nonce') ?? '';
    const second = await call(url, accessToken, 'DPoP', await make(nonce));
    expect(second.status).toBe(200);
    expect(second.headers.get('dpop-nonce')).toBe(nonce);
    expect((await call(url, accessToken, 'Bearer')).status).toBe(401);
    const thief = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const theirs = await dpopProof(thief, url, nonce, { method: 'GET', accessToken });
    expect((await call(url, accessToken, 'DPoP', theirs)).status).toBe(401);
  });
});

async function listen(http: Server): Promise<number> {
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  closing.push(() => {
    http.closeAllConnections();
    http.close();
  });
  return (http.address() as AddressInfo).port;
}
