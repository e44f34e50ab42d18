import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { inspect } from 'node:util';
import { testCertificate } from '@countersign/testkit/certificate';
import { fakeClock } from '@countersign/testkit/clock';
import { type OAuthServer, startOAuthServer } from '@countersign/testkit/oauth-server';
import {
  drip,
  respond,
  respondJson,
  retryAfter,
  silence,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { decodeJwt } from 'jose';
import { Agent, interceptors } from 'undici';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  clientSecretBasic,
  memoryTokenStore,
  privateKeyJwt,
  type RefreshTokenOptions,
  refreshToken,
  type TokenStore,
} from '../src/index.ts';

let server: OAuthServer;
let store: TokenStore;
let initial: string;
const clock = fakeClock();
beforeAll(async () => {
  server = await startOAuthServer();
});
afterAll(() => server.stop());
beforeEach(async () => {
  server.forget();
  store = memoryTokenStore({ now: clock.now });
  initial = await server.mintRefreshToken();
});

const grant = (options: Partial<RefreshTokenOptions> = {}) => {
  const { clientId, clientSecret } = server.clients.web;
  return refreshToken({
    ...(options.server ? {} : { issuer: server.issuer }),
    allowInsecureLoopback: true,
    clientId,
    clientAuth: clientSecretBasic(clientSecret),
    initial,
    store,
    retries: 1,
    ...options,
  });
};
const used = () =>
  server.requests
    .filter(({ endpoint }) => endpoint === 'token')
    .map(({ params }) => params['refresh_token']);

describe('rotation', () => {
  it('uses each refresh token once, with reuse detection on', async () => {
    const source = grant();
    for (let round = 1; round <= 4; round += 1) {
      expect((await source.getToken({ forceRenewal: true })).generation).toBe(round);
    }
    expect(used()).toHaveLength(4);
    expect(new Set(used()).size).toBe(4);
    expect(used()[0]).toBe(initial);
  });

  it('is done once for all who want it, and by none who find it done', async () => {
    const [one, other] = [grant(), grant()];
    const tokens = await Promise.all(
      Array.from({ length: 200 }, (_, index) => (index % 2 ? one : other).getToken()),
    );
    expect(new Set(tokens.map(({ value }) => value)).size).toBe(1);
    expect(used()).toHaveLength(1);
    const renewed = await Promise.all(
      [one, other].map((source) => source.getToken({ forceRenewal: 1 })),
    );
    expect(renewed.map(({ generation }) => generation)).toEqual([2, 2]);
    expect(used()).toHaveLength(2);
  });

  it('goes on after a restart, from what the store knows and not from the beginning', async () => {
    await grant().getToken();
    await grant().getToken({ forceRenewal: 1 });
    expect(used()).toHaveLength(2);
    expect(used()[1]).not.toBe(initial);
  });

  it('serves several scopes and resources with one grant', async () => {
    const source = grant();
    const [read, write] = await Promise.all([
      source.getToken({ scope: 'orders:read' }),
      source.getToken({ scope: 'orders:write' }),
    ]);
    expect([read?.scope, write?.scope]).toEqual(['orders:read', 'orders:write']);
    expect(decodeJwt(read?.value ?? '').sub).toBe('alice');
    expect(new Set(used()).size).toBe(2);
    // What was got for one scope is kept when another is asked for.
    expect((await grant().getToken({ scope: 'orders:read' })).value).toBe(read?.value);
  });

  it('never sends a refresh token again that was refused to it, and speaks for no other source', async () => {
    const [one, other] = [grant({ initial: 'made-up' }), grant({ initial: 'made-up' })];
    for (let call = 0; call < 3; call += 1) {
      await expect(one.getToken()).rejects.toMatchObject({ error: 'invalid_grant' });
    }
    clock.advance(86_400_000);
    await expect(one.getToken()).rejects.toMatchObject({ error: 'invalid_grant' });
    expect(used()).toEqual(['made-up']);
    // It may have been refused for the key it was bound to: the one with the right key must not be kept from it.
    await expect(other.getToken()).rejects.toMatchObject({ error: 'invalid_grant' });
    expect(used()).toEqual(['made-up', 'made-up']);
  });

  it('after a refusal goes on with the refresh token that another process has got since', async () => {
    const api = await startScriptedServer();
    const answer = (token: string, next: string) =>
      respondJson({
        access_token: token,
        token_type: 'Bearer',
        expires_in: 60,
        refresh_token: next,
      });
    const refusal = respondJson({ error: 'invalid_grant' }, { status: 400 });
    api.enqueue(refusal, answer('a', 'second'), answer('b', 'third'));
    const of = () =>
      grant({
        server: { issuer: api.origin, token_endpoint: `${api.origin}/token` },
        initial: 'first',
      });
    const [wrong, right] = [of(), of()];
    await expect(wrong.getToken()).rejects.toMatchObject({ error: 'invalid_grant' });
    expect((await right.getToken()).value).toBe('a');
    expect((await wrong.getToken()).value).toBe('a');
    expect((await wrong.getToken({ forceRenewal: true })).value).toBe('b');
    await api.stop();
  });
});

describe('what is kept', () => {
  it('is the old refresh token when the server sends no new one', async () => {
    const api = await startScriptedServer();
    const answer = (token: string, more = {}) =>
      respondJson({ access_token: token, token_type: 'Bearer', expires_in: 60, ...more });
    api.enqueue(
      answer('a1'),
      answer('a2', { refresh_token: 'second' }),
      answer('a3'),
      answer('a4', { refresh_token: null }),
      answer('a5'),
    );
    const source = grant({
      server: { issuer: api.origin, token_endpoint: `${api.origin}/token` },
      initial: 'first',
    });
    for (let round = 0; round < 5; round += 1) await source.getToken({ forceRenewal: true });
    const sent = api.requests.map(({ body }) =>
      new URLSearchParams(body.toString()).get('refresh_token'),
    );
    expect(sent).toEqual(['first', 'first', 'second', 'second', 'second']);
    await api.stop();
  });
});

describe('a grant', () => {
  it('is one grant, whoever renews it: another key, audience or parameter is no reason to begin again', async () => {
    const api = await startScriptedServer();
    const answer = (token: string, type = 'Bearer') =>
      respondJson({
        access_token: token,
        token_type: type,
        expires_in: 60,
        refresh_token: `after-${token}`,
      });
    api.enqueue(answer('a'), answer('b'), answer('c', 'DPoP'), answer('d'));
    const key = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const of = (options: Partial<RefreshTokenOptions> = {}) =>
      grant({
        server: { issuer: api.origin, token_endpoint: `${api.origin}/token` },
        initial: 'first',
        clientAuth: privateKeyJwt(key()),
        ...options,
      });
    // Tokens of one are not for the other all the same.
    expect((await of().getToken()).value).toBe('a');
    expect((await of({ audience: 'other' }).getToken()).value).toBe('b');
    expect((await of({ dpop: true }).getToken()).value).toBe('c');
    expect((await of({ parameters: { tenant: 'x' } }).getToken()).value).toBe('d');
    const sent = api.requests.map(({ body }) =>
      new URLSearchParams(body.toString()).get('refresh_token'),
    );
    expect(sent).toEqual(['first', 'after-a', 'after-b', 'after-c']);
    await api.stop();
  });
});

it('takes from the store no token that would not survive the request', async () => {
  const { expiresAtMs } = await grant({ now: clock.now }).getToken();
  clock.advance(expiresAtMs - clock.now() - 999);
  const token = await grant({ now: clock.now }).getToken();
  expect(token.generation).toBe(2);
  expect(token.expiresAtMs).toBeGreaterThan(expiresAtMs);
});

interface Unreachable {
  readonly origin: string;
  readonly code: string;
  readonly options?: Partial<RefreshTokenOptions>;
  stop(): Promise<unknown>;
}

async function refusing(): Promise<Unreachable> {
  const { origin, stop } = await startScriptedServer();
  await stop();
  return { origin, code: 'ERR_OAUTH_NETWORK', stop: async () => {} };
}

async function blackHole(): Promise<Unreachable> {
  const hole = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
  await once(hole, 'listening');
  const { port } = hole.address() as AddressInfo;
  const dispatcher = new Agent();
  return {
    origin: `https://127.0.0.1:${port}`,
    code: 'ERR_OAUTH_TIMEOUT',
    options: { dispatcher },
    stop: async () => {
      await dispatcher.destroy();
      hole.close();
    },
  };
}

async function untrusted(): Promise<Unreachable> {
  const { cert, key } = testCertificate();
  const strange = createTlsServer({ cert, key }).listen(0, '127.0.0.1');
  strange.on('tlsClientError', () => {});
  await once(strange, 'listening');
  const { port } = strange.address() as AddressInfo;
  return {
    origin: `https://127.0.0.1:${port}`,
    code: 'ERR_OAUTH_NETWORK',
    stop: async () => strange.close(),
  };
}

async function closed(): Promise<Unreachable> {
  const { origin, stop } = await startScriptedServer();
  const dispatcher = new Agent();
  await dispatcher.close();
  return { origin, code: 'ERR_OAUTH_NETWORK', options: { dispatcher }, stop };
}

describe('a lost answer', () => {
  it('is reported and never followed by a second use, in any process, until the grant is new', async () => {
    server.intercept('token', 'lose-response');
    const source = grant();
    await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' });
    await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' });
    await expect(grant().getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    clock.advance(86_400_000);
    await expect(grant().getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    expect(used()).toHaveLength(1);
    const renewed = grant({ initial: await server.mintRefreshToken() });
    expect((await renewed.getToken()).generation).toBe(1);
  });

  it('leaves the token that is still valid in use', async () => {
    const source = grant();
    const first = await source.getToken();
    server.intercept('token', 'lose-response');
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    expect(await source.getToken()).toBe(first);
  });

  it.each([
    ['500', { status: 500 }],
    ['502 from something in between', { status: 502, body: '<html>' }],
    ['503 that names no time', { status: 503 }],
    ['408', { status: 408 }],
    ['a success of another kind', { status: 202, body: '{}' }],
    ['a success that cannot be read', { status: 200, body: 'lost' }],
  ])('may hide behind %s', async (_, answer) => {
    server.intercept('token', answer);
    await expect(grant().getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    expect(used()).toHaveLength(1);
  });

  it.each([
    ['429', { status: 429, headers: { 'retry-after': '0' } }],
    ['503 with Retry-After', { status: 503, headers: { 'retry-after': '0' } }],
  ])('is not what %s is: the server says it did nothing, and is asked again', async (_, answer) => {
    server.intercept('token', answer);
    expect((await grant().getToken()).generation).toBe(1);
    expect(server.count('token')).toBe(2);
  });

  it.each<[string, () => Promise<Unreachable>]>([
    ['refuses connections', refusing],
    ['takes connections and says nothing, not even of TLS', blackHole],
    ['shows a certificate nobody trusts', untrusted],
    ['is asked through a dispatcher that was closed', closed],
  ])('is not a request that never left: a server that %s', async (_, start) => {
    const { origin, code, options, stop } = await start();
    const unreachable = grant({
      server: { issuer: server.issuer, token_endpoint: `${origin}/token` },
      attemptTimeoutMs: 200,
      timeoutMs: 1000,
      retries: 0,
      ...options,
    });
    await expect(unreachable.getToken()).rejects.toMatchObject({ code });
    // Its claim and its intent are gone: the grant can be used.
    expect((await grant().getToken()).generation).toBe(1);
    await stop();
  });

  it('may be tried again by servers that say so, and not for longer', async () => {
    const api = await startScriptedServer();
    const metadata = { issuer: api.origin, token_endpoint: `${api.origin}/token` };
    const good = { access_token: 'a', token_type: 'Bearer', expires_in: 60, refresh_token: 'r2' };
    const options = { server: metadata, initial: 'first', reuseGraceSeconds: 30 };
    api.enqueue(respond({ status: 500 }), respondJson(good));
    const source = grant(options);
    await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' });
    clock.advance(29_000);
    expect((await source.getToken()).value).toBe('a');
    api.enqueue(respond({ status: 500 }));
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    clock.advance(31_000);
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    expect(api.requests).toHaveLength(3);
    await api.stop();
  });
});

it('is waited for as long as the call may take once the token is sent, however short an attempt is', async () => {
  const api = await startScriptedServer();
  const good = { access_token: 'a', token_type: 'Bearer', expires_in: 60, refresh_token: 'r2' };
  const json = { headers: { 'content-type': 'application/json' }, body: JSON.stringify(good) };
  api.enqueue(drip(5, json));
  const metadata = { issuer: api.origin, token_endpoint: `${api.origin}/token` };
  const source = grant({ server: metadata, attemptTimeoutMs: 200, timeoutMs: 30_000 });
  expect((await source.getToken()).value).toBe('a');
  api.enqueue(silence());
  const brief = grant({ server: metadata, attemptTimeoutMs: 100, timeoutMs: 200 });
  await expect(brief.getToken({ forceRenewal: 1 })).rejects.toMatchObject({
    code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
  });
  expect(api.requests).toHaveLength(2);
  await api.stop();
});

it('is sent once, through a dispatcher that repeats what others send through it too', async () => {
  const api = await startScriptedServer({ otherwise: respond({ status: 500 }) });
  const agent = new Agent();
  const retry = { methods: ['POST'], statusCodes: [500], minTimeout: 1 } as const;
  const source = grant({
    server: { issuer: api.origin, token_endpoint: `${api.origin}/token` },
    dispatcher: agent.compose(interceptors.retry(retry as never)),
  });
  await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' });
  expect(api.requests).toHaveLength(1);
  await agent.destroy();
  await api.stop();
});

it('taken over in time and not used after all stays one whose outcome is not known', async () => {
  const api = await startScriptedServer();
  const metadata = { issuer: api.origin, token_endpoint: `${api.origin}/token` };
  const of = () => grant({ server: metadata, initial: 'first', reuseGraceSeconds: 30, retries: 0 });
  api.enqueue(respond({ status: 500 }), retryAfter('1', 503));
  await expect(of().getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' });
  clock.advance(10_000);
  await expect(of().getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_UNAVAILABLE' });
  // The first use may have replaced it, and by now the server would take a second for theft.
  clock.advance(30_000);
  await expect(of().getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' });
  expect(api.requests).toHaveLength(2);
  await api.stop();
});

it('takes as long as its caller allows before others take it for lost', async () => {
  const leases: number[] = [];
  const claim: TokenStore['claim'] = (key, request) => {
    leases.push(request.leaseMs);
    return store.claim(key, request);
  };
  await grant({ store: { ...store, claim }, timeoutMs: 120_000 }).getToken();
  expect(leases[0]).toBeGreaterThan(120_000);
});

describe('a store that fails', () => {
  /** The store, and the calls that fail next. */
  const failing = () => {
    const broken = new Set<keyof TokenStore>();
    const guarded = <K extends keyof TokenStore>(name: K): TokenStore[K] =>
      ((...args: never[]) =>
        broken.has(name)
          ? Promise.reject(new Error('store down'))
          : (store[name] as (...all: never[]) => Promise<never>)(...args)) as TokenStore[K];
    const proxy = {
      claim: guarded('claim'),
      complete: guarded('complete'),
      release: guarded('release'),
    };
    return { broken, proxy };
  };

  const lost = { code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' };

  /** A store with a copy that may fall behind and take its place. */
  const replicated = () => {
    let behind = false;
    const copy = memoryTokenStore({ now: clock.now });
    let current = store;
    const replica = {
      promoteBefore: undefined as keyof TokenStore | undefined,
      freeze: () => {
        behind = true;
      },
      promote: () => {
        current = copy;
      },
    };
    const both = <K extends keyof TokenStore>(name: K): TokenStore[K] =>
      (async (...args: never[]) => {
        if (replica.promoteBefore === name) replica.promote();
        const call = (one: TokenStore) =>
          (one[name] as (...all: never[]) => Promise<never>)(...args);
        if (!behind) await call(copy);
        return call(current);
      }) as TokenStore[K];
    const proxy = { claim: both('claim'), complete: both('complete'), release: both('release') };
    return { replica, proxy };
  };

  /** With a token that the replica knows; of what comes after, it learns nothing. */
  const leftBehind = async () => {
    const { replica, proxy } = replicated();
    const source = grant({ store: proxy });
    await source.getToken();
    replica.freeze();
    return { replica, proxy, source };
  };

  it('before the use prevents it: without a store nobody knows who else uses the token', async () => {
    const { broken, proxy } = failing();
    broken.add('claim');
    const source = grant({ store: proxy });
    await expect(source.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_STORE' });
    expect(used()).toHaveLength(0);
    broken.clear();
    expect((await source.getToken()).generation).toBe(1);
  });

  it('when an answer is lost too does not make it forgotten', async () => {
    const { broken, proxy } = failing();
    broken.add('release');
    server.intercept('token', 'lose-response');
    const source = grant({ store: proxy, timeoutMs: 1000 });
    const lost = { code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' };
    await expect(source.getToken()).rejects.toMatchObject(lost);
    broken.clear();
    clock.advance(60_000);
    await expect(source.getToken()).rejects.toMatchObject(lost);
    expect(used()).toHaveLength(1);
  });

  it('to give back what it was given is not trusted, and nothing is used', async () => {
    const claim = async () => ({ status: 'claimed', value: 'not-a-grant', generation: 1 }) as const;
    const error: unknown = await grant({ store: { ...store, claim } })
      .getToken()
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_OAUTH_STORE' });
    expect(inspect(error)).not.toContain('not-a-grant');
    expect(used()).toHaveLength(0);
  });

  it('and forgets what was claimed is given the new refresh token all the same', async () => {
    const forgetful = () => memoryTokenStore({ now: clock.now });
    let current = forgetful();
    const source = grant({
      store: {
        claim: (...args) => current.claim(...args),
        complete: (...args) => {
          current = forgetful();
          return current.complete(...args);
        },
        release: (...args) => current.release(...args),
      },
    });
    expect((await source.getToken()).generation).toBe(1);
    expect((await grant({ store: current }).getToken({ forceRenewal: 1 })).generation).toBe(2);
    expect(new Set(used()).size).toBe(2);
  });

  it('and forgets the grant is no reason to use again what was replaced', async () => {
    let current = store;
    const source = grant({
      store: {
        claim: (...args) => current.claim(...args),
        complete: (...args) => current.complete(...args),
        release: (...args) => current.release(...args),
      },
    });
    const first = await source.getToken();
    current = memoryTokenStore({ now: clock.now });
    const lost = { code: 'ERR_OAUTH_ROTATION_AMBIGUOUS' };
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject(lost);
    await expect(source.getToken({ scope: 'orders:read' })).rejects.toMatchObject(lost);
    expect(used()).toEqual([initial]);
    expect(await source.getToken()).toBe(first);
    // The claim was given back: who comes with the replacement after all is welcome.
    current = store;
    expect((await source.getToken({ forceRenewal: true })).generation).toBe(2);
    expect(new Set(used()).size).toBe(2);
  });

  it('and goes back to an older one, as after a failover, is no reason either', async () => {
    const { replica, source } = await leftBehind();
    await source.getToken({ forceRenewal: true });
    replica.promote();
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject(lost);
    await expect(source.getToken({ scope: 'orders:read' })).rejects.toMatchObject(lost);
    expect(used()).toHaveLength(2);
    expect(new Set(used()).size).toBe(2);
  });

  it('and goes back to an older one while the next is got takes the next', async () => {
    const { replica, proxy, source } = await leftBehind();
    replica.promoteBefore = 'complete';
    await source.getToken({ forceRenewal: true });
    expect((await grant({ store: proxy }).getToken({ forceRenewal: 2 })).generation).toBe(3);
    expect(new Set(used()).size).toBe(3);
  });

  it('and forgets that an answer was lost is told again', async () => {
    const { replica, proxy } = replicated();
    replica.freeze();
    server.intercept('token', 'lose-response');
    const source = grant({ store: proxy });
    await expect(source.getToken()).rejects.toMatchObject(lost);
    replica.promote();
    await expect(source.getToken()).rejects.toMatchObject(lost);
    await expect(grant({ store: proxy }).getToken()).rejects.toMatchObject(lost);
    expect(used()).toEqual([initial]);
  });

  it('to say that it granted a claim has nobody take that for a use', async () => {
    const { proxy, broken } = failing();
    const claim: TokenStore['claim'] = async (...args) => {
      const granted = await store.claim(...args);
      if (broken.has('claim')) throw new Error('the answer was lost');
      return granted;
    };
    broken.add('claim');
    await expect(grant({ store: { ...proxy, claim } }).getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_STORE',
    });
    clock.advance(60_000);
    expect((await grant().getToken()).generation).toBe(1);
  });

  it('late to take one refresh token does not have the next one forgotten', async () => {
    let calls = 0;
    let arrive = () => {};
    const late = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const complete: TokenStore['complete'] = async (...args) => {
      calls += 1;
      // What is saved in the background takes long; what is saved in between fails.
      if (calls === 2) await late;
      else if (calls !== 3 && calls < 5) throw new Error('store down');
      return store.complete(...args);
    };
    const source = grant({ store: { ...store, complete } });
    await source.getToken();
    await expect.poll(() => calls).toBe(2);
    expect((await source.getToken({ forceRenewal: true })).generation).toBe(2);
    arrive();
    await new Promise((next) => setImmediate(next));
    expect((await source.getToken({ forceRenewal: true })).generation).toBe(3);
    expect(new Set(used()).size).toBe(3);
  });

  it('and knows only that there was a grant does not make the first token usable again', async () => {
    const brief = grant({ refreshLifetimeSeconds: 1 });
    await brief.getToken();
    clock.advance(1000);
    await expect(grant().getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_ROTATION_AMBIGUOUS',
    });
    expect(used()).toEqual([initial]);
  });

  it('and forgets a refresh token that is never replaced has lost nothing', async () => {
    const api = await startScriptedServer();
    const answer = respondJson({ access_token: 'a', token_type: 'Bearer', expires_in: 60 });
    api.enqueue(answer, answer);
    let current = store;
    const source = grant({
      server: { issuer: api.origin, token_endpoint: `${api.origin}/token` },
      store: {
        claim: (...args) => current.claim(...args),
        complete: (...args) => current.complete(...args),
        release: (...args) => current.release(...args),
      },
    });
    await source.getToken();
    current = memoryTokenStore({ now: clock.now });
    expect((await source.getToken({ forceRenewal: true })).generation).toBe(2);
    await api.stop();
  });

  it('after the use does not lose the new refresh token', async () => {
    const { broken, proxy } = failing();
    broken.add('complete');
    const source = grant({ store: proxy });
    expect((await source.getToken()).generation).toBe(1);
    // Nothing else is used while what was got is not safe.
    await expect(source.getToken({ forceRenewal: true })).rejects.toMatchObject({
      code: 'ERR_OAUTH_STORE',
    });
    expect(used()).toHaveLength(1);
    broken.clear();
    expect((await source.getToken({ forceRenewal: true })).generation).toBe(2);
    expect((await grant().getToken()).generation).toBe(2);
    expect(new Set(used()).size).toBe(2);
  });
});

it('refuses options it cannot work with', () => {
  expect(() => grant({ initial: '' })).toThrow(/initial/);
  expect(() => grant({ store: {} as never })).toThrow(/store/);
  for (const refreshLifetimeSeconds of [-1, 1e15]) {
    expect(() => grant({ refreshLifetimeSeconds })).toThrow(/refreshLifetimeSeconds/);
  }
  for (const reuseGraceSeconds of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => grant({ reuseGraceSeconds })).toThrow(/reuseGraceSeconds/);
  }
});
