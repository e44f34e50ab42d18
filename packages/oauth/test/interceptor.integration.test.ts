import { generateKeyPairSync } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Readable } from 'node:stream';
import { type OAuthServer, startOAuthServer } from '@countersign/testkit/oauth-server';
import {
  endlessBody,
  resetMidBody,
  respond,
  type Script,
  type ScriptedServer,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { decodeJwt } from 'jose';
import { Agent, type Dispatcher, fetch, interceptors, Pool, request } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  AccessToken,
  accessToken,
  type ClientCredentialsOptions,
  clientCredentials,
  OAuthError,
  privateKeyJwt,
  type TokenSource,
} from '../src/index.ts';

let server: OAuthServer;
let api: ScriptedServer;
let source: TokenSource;
let agent: Agent;
let dispatcher: Dispatcher;
beforeAll(async () => {
  server = await startOAuthServer({ defaultResource: 'https://api.example.com' });
});
afterAll(() => server.stop());
beforeEach(async () => {
  server.forget();
  api = await startScriptedServer();
  source = service();
  agent = new Agent();
  dispatcher = agent.compose(accessToken(source));
});
afterEach(async () => {
  await agent.destroy();
  await api.stop();
});

const service = (options: Partial<ClientCredentialsOptions> = {}) => {
  const { clientId, privateKey, keyId } = server.clients.service;
  return clientCredentials({
    issuer: server.issuer,
    allowInsecureLoopback: true,
    clientId,
    clientAuth: privateKeyJwt(privateKey, { keyId }),
    ...options,
  });
};
const refused = (error = 'invalid_token', scheme = 'Bearer'): Script =>
  respond({
    status: 401,
    headers: { 'www-authenticate': `${scheme} realm="x", error="${error}"` },
    body: 'no',
  });
const authorization = (index: number) => api.requests[index]?.headers['authorization'];
const get = (options: Partial<Dispatcher.RequestOptions> = {}) =>
  request(api.origin, { dispatcher, ...(options as object) });

describe('a request', () => {
  it('carries the token, beside the headers it has, in all their forms', async () => {
    const forms = [
      undefined,
      null,
      { accept: '*/*', 'x-many': ['1', '2'], 'x-none': undefined },
      ['accept', '*/*', 'x-many', '1', 'x-many', '2'],
      new Map([
        ['accept', '*/*'],
        ['x-many', '1, 2'],
      ]),
    ];
    for (const headers of forms) await (await get({ headers: headers as never })).body.dump();
    const { value } = await source.getToken();
    expect(api.requests.map(({ headers }) => headers['authorization'])).toEqual(
      forms.map(() => `Bearer ${value}`),
    );
    for (const seen of api.requests.slice(2)) {
      expect(seen.headers).toMatchObject({ accept: '*/*', 'x-many': '1, 2' });
    }
  });

  it('made with fetch carries it too', async () => {
    const response = await fetch(api.origin, { dispatcher, headers: { accept: 'text/plain' } });
    expect(response.status).toBe(200);
    expect(authorization(0)).toMatch(/^Bearer ey/);
    expect(api.requests[0]?.headers).toMatchObject({ accept: 'text/plain' });
  });

  it('of a pool, which knows its origin, carries it too', async () => {
    const pool = new Pool(api.origin);
    const ask = (composed: Dispatcher) => composed.request({ path: '/', method: 'GET' });
    await ask(pool.compose(accessToken(source)));
    await ask(pool.compose(accessToken(source, { origins: [api.origin] })));
    await ask(pool.compose(accessToken(source, { origins: ['https://other.example.com'] })));
    expect([0, 1, 2].map(authorization)).toEqual([
      expect.stringMatching(/^Bearer ey/),
      expect.stringMatching(/^Bearer ey/),
      undefined,
    ]);
    await pool.destroy();
  });

  it('with an Authorization of its own goes as it is', async () => {
    await get({ headers: { Authorization: 'ApiKey own' } });
    expect(authorization(0)).toBe('ApiKey own');
    expect(server.requests).toHaveLength(0);
  });

  it('without a token is never sent', async () => {
    const failure = new OAuthError('ERR_OAUTH_UNAVAILABLE', 'no token today');
    const broken = accessToken({ getToken: () => Promise.reject(failure) });
    const pending = request(api.origin, { dispatcher: agent.compose(broken) });
    await expect(pending).rejects.toBe(failure);
    const throwing = accessToken({
      getToken: () => {
        throw failure;
      },
    });
    await expect(request(api.origin, { dispatcher: agent.compose(throwing) })).rejects.toBe(
      failure,
    );
    expect(api.requests).toHaveLength(0);
    expect(api.connections).toBe(0);
  });

  it.each([
    [undefined],
    ['token'],
    [{ access_token: 'x', token_type: 'Bearer' }],
    [{ value: '', type: 'Bearer' }],
    [{ value: 'x', type: 'Basic' }],
  ])('is not sent with what is no token either: %j', async (token) => {
    const odd = accessToken({ getToken: async () => token as never });
    const pending = request(api.origin, { dispatcher: agent.compose(odd) });
    await expect(pending).rejects.toThrow(TypeError);
    expect(api.connections).toBe(0);
  });

  it('that is aborted while its token is on the way ends at once, and is never sent', async () => {
    const aborter = new AbortController();
    let asked: AbortSignal | undefined;
    const slow = accessToken({
      getToken: (wanted) =>
        new Promise((_, reject) => {
          asked = wanted?.signal;
          asked?.addEventListener('abort', () => reject(asked?.reason as Error));
        }),
    });
    const { signal } = aborter;
    const pending = request(api.origin, { dispatcher: agent.compose(slow), signal });
    aborter.abort(new Error('gave up'));
    await expect(pending).rejects.toThrow('gave up');
    expect(asked).toBe(signal);
    expect(api.connections).toBe(0);
  });
});

describe('another origin', () => {
  it('never gets the token, not even through a redirect', async () => {
    const evil = await startScriptedServer();
    api.enqueue(respond({ status: 302, headers: { location: `${evil.origin}/steal` } }));
    const following = agent.compose(
      accessToken(source),
      interceptors.redirect({ maxRedirections: 3 }),
    );
    await (await get({ dispatcher: following } as never)).body.dump();
    await (await request(evil.origin, { dispatcher: following })).body.dump();
    expect(authorization(0)).toMatch(/^Bearer/);
    expect(evil.requests).toHaveLength(2);
    for (const { head } of evil.requests) expect(head).not.toMatch(/authorization/i);
    await evil.stop();
  });

  it('does not get it through another dispatcher of the same interceptor’s first origin', async () => {
    const evil = await startScriptedServer();
    const shared = accessToken(source);
    const [first, second] = [agent.compose(shared), agent.compose(shared)];
    await request(api.origin, { dispatcher: first });
    await request(evil.origin, { dispatcher: first });
    expect(evil.requests[0]?.headers).not.toHaveProperty('authorization');
    await request(api.origin, { dispatcher: second });
    await request(evil.origin, { dispatcher: second });
    expect(evil.requests[1]?.headers).not.toHaveProperty('authorization');
    await evil.stop();
  });

  it('does not get it through a path that names it, whatever server that is sent to', async () => {
    await get();
    for (const path of ['http://other.example.com/a', 'HTTPS://other.example.com/a']) {
      await dispatcher.request({ origin: api.origin, path, method: 'GET' }).catch(() => {});
    }
    await dispatcher.request({ origin: api.origin, path: `${api.origin}/a`, method: 'GET' });
    expect(authorization(0)).toBeDefined();
    const seen = api.requests
      .slice(1)
      .map(({ target, headers }) => [target, 'authorization' in headers]);
    expect(seen).toContainEqual(['http://other.example.com/a', false]);
    expect(seen.at(-1)).toEqual([`${api.origin}/a`, true]);
    expect(seen.filter(([, carried]) => carried)).toHaveLength(1);
  });

  it.each(['localhost:3000', 'api.example.com:443', 'ftp://api.example.com', 'null'])(
    'cannot be named as %s',
    (origin) => {
      expect(() => accessToken(source, { origins: [origin] })).toThrow(/origins/);
    },
  );

  it('is still another when a request with an Authorization of its own went there first', async () => {
    const other = await startScriptedServer();
    await request(other.origin, { dispatcher, headers: { authorization: 'ApiKey own' } });
    await get();
    await request(other.origin, { dispatcher });
    expect(authorization(0)).toMatch(/^Bearer/);
    expect(other.requests.map(({ headers }) => headers['authorization'])).toEqual([
      'ApiKey own',
      undefined,
    ]);
    await other.stop();
  });

  it('gets it when it is named', async () => {
    const second = await startScriptedServer();
    const both = agent.compose(accessToken(source, { origins: [api.origin, second.origin] }));
    for (const { origin } of [second, api]) await request(origin, { dispatcher: both });
    expect(authorization(0)).toMatch(/^Bearer/);
    expect(second.requests[0]?.headers['authorization']).toMatch(/^Bearer/);
    await second.stop();
    expect(() => accessToken(source, { origins: ['nonsense'] })).toThrow(/origins/);
    expect(() => accessToken(source, { origins: [] })).toThrow(/origins/);
    expect(() => accessToken({} as never)).toThrow(/source/);
  });
});

describe('invalid_token', () => {
  it('renews once and repeats once, with the same body', async () => {
    api.enqueue(refused());
    const { statusCode } = await get({ method: 'POST', body: 'pay' });
    expect(statusCode).toBe(200);
    expect(api.requests.map(({ body }) => String(body))).toEqual(['pay', 'pay']);
    expect(authorization(0)).not.toBe(authorization(1));
    expect(server.count('token')).toBe(2);
  });

  it('twice is the caller’s', async () => {
    api.enqueue(refused(), refused());
    const { statusCode, body } = await get();
    expect([statusCode, await body.text()]).toEqual([401, 'no']);
    expect(api.requests).toHaveLength(2);
  });

  it('for 50 requests at once causes one renewal', async () => {
    const old = (await source.getToken()).value;
    await api.stop();
    api = await startScriptedServer({
      otherwise: ({ headers }) =>
        headers['authorization'] === `Bearer ${old}` ? refused() : respond(),
    });
    const responses = await Promise.all(Array.from({ length: 50 }, () => get()));
    expect(responses.map(({ statusCode }) => statusCode)).toEqual(Array(50).fill(200));
    expect(server.count('token')).toBe(2);
    expect(api.requests).toHaveLength(100);
  });

  it('for every token there is ends in refusals, not in a storm of renewals', async () => {
    await api.stop();
    api = await startScriptedServer({ otherwise: refused() });
    for (let attempt = 0; attempt < 30; attempt += 1) {
      const { statusCode, body } = await get();
      await body.dump();
      expect(statusCode).toBe(401);
    }
    expect(server.count('token')).toBe(1 + 6);
    expect(api.requests).toHaveLength(30 + 6);
  });

  it('is not a storm either where every request composes a dispatcher of its own', async () => {
    await api.stop();
    api = await startScriptedServer({ otherwise: refused() });
    const interceptor = accessToken(source);
    for (let attempt = 0; attempt < 10; attempt += 1) {
      const { body } = await get({ dispatcher: agent.compose(interceptor) } as object);
      await body.dump();
    }
    expect(server.count('token')).toBe(1 + 6);
  });

  it('is not a storm either where no new token can be had', async () => {
    await source.getToken();
    await api.stop();
    api = await startScriptedServer({ otherwise: refused() });
    server.intercept('token', { status: 403, body: '<html>' }, 6);
    const outcomes: unknown[] = [];
    for (let attempt = 0; attempt < 30; attempt += 1) {
      outcomes.push(
        await get().then(
          ({ statusCode, body }) => body.dump().then(() => statusCode),
          ({ code }: OAuthError) => code,
        ),
      );
    }
    expect(outcomes).toEqual([...Array(6).fill('ERR_OAUTH_RESPONSE'), ...Array(24).fill(401)]);
    expect(server.count('token')).toBe(1 + 6);
  });

  it('is not a storm either where the source has the same token every time', async () => {
    await api.stop();
    api = await startScriptedServer({ otherwise: refused() });
    const parts = { value: 'same', type: 'Bearer', expiresAtMs: 0, scope: '' } as const;
    for (const generation of [0, 1]) {
      let renewals = 0;
      const same = accessToken({
        getToken: async (wanted) => {
          if (wanted?.forceRenewal !== undefined) renewals += 1;
          return new AccessToken({ ...parts, generation });
        },
      });
      const stubborn = agent.compose(same);
      for (let attempt = 0; attempt < 10; attempt += 1) {
        await (await get({ dispatcher: stubborn } as object)).body.dump();
      }
      expect(renewals).toBe(6);
    }
  });

  it('does not send a stream twice', async () => {
    api.enqueue(refused());
    const { statusCode, body } = await get({
      method: 'POST',
      body: Readable.from([Buffer.from('once')]),
    });
    expect([statusCode, await body.text()]).toEqual([401, 'no']);
    expect(api.requests).toHaveLength(1);
  });

  it.each(['request', 'dispatch'])(
    'fails with its body when that fails while the token is got: %s',
    async (way) => {
      const body = new Readable({ read() {} });
      const failing = new Promise<never>((_, reject) => {
        const call = { origin: api.origin, path: '/', method: 'POST', body } as const;
        if (way === 'request') request(api.origin, { ...call, dispatcher }).then(() => {}, reject);
        else dispatcher.dispatch(call, { onResponseError: (_controller, error) => reject(error) });
      });
      body.destroy(new Error('the disk is gone'));
      await expect(failing).rejects.toThrow('the disk is gone');
      await source.getToken();
      expect(api.requests).toHaveLength(0);
    },
  );

  it.each(['insufficient_scope', 'invalid_request', 'use_dpop_nonce'])(
    'is not %s: that answer is the caller’s',
    async (error) => {
      api.enqueue(refused(error));
      expect((await get()).statusCode).toBe(401);
      expect(api.requests).toHaveLength(1);
    },
  );

  it('of another scheme is not about this token', async () => {
    api.enqueue(refused('invalid_token', 'ApiKey'));
    expect((await get()).statusCode).toBe(401);
    expect(api.requests).toHaveLength(1);
  });

  it.each([
    [
      'never ends',
      endlessBody({ status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token"' } }),
    ],
    [
      'breaks off',
      resetMidBody(
        { status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token"' }, body: 'n' },
        100,
      ),
    ],
  ])('whose body %s is not waited for', async (_, script) => {
    api.enqueue(script);
    expect((await get()).statusCode).toBe(200);
    expect(api.requests).toHaveLength(2);
  });

  it('fails the request when the renewal fails', async () => {
    await source.getToken();
    api.enqueue(refused());
    server.intercept('token', { status: 400, body: '{}' });
    await expect(get()).rejects.toBeInstanceOf(OAuthError);
    expect(api.requests).toHaveLength(1);
  });

  it('tells of a repetition, and what it was for, without the token', async () => {
    const events: unknown[] = [];
    const listen = (event: unknown) => void events.push(event);
    subscribe('countersign:oauth:retry', listen);
    api.enqueue(refused());
    await get();
    unsubscribe('countersign:oauth:retry', listen);
    const { origin } = api;
    const durationMs = expect.any(Number);
    expect(events).toEqual([
      { at: 'resource-server', origin, remedy: 'token', generation: 1, durationMs },
    ]);
  });

  it('fails the request when the source throws at the renewal', async () => {
    const failure = new Error('thrown, not rejected');
    const token = await source.getToken();
    const throwing = accessToken({
      getToken: (wanted) => {
        if (wanted?.forceRenewal !== undefined) throw failure;
        return Promise.resolve(token);
      },
    });
    api.enqueue(refused());
    await expect(request(api.origin, { dispatcher: agent.compose(throwing) })).rejects.toBe(
      failure,
    );
    expect(api.requests).toHaveLength(1);
  });

  it('never lets one request carry what another was given', async () => {
    const tokens: string[] = [];
    let generation = 0;
    const each: TokenSource = {
      getToken: async () => {
        generation += 1;
        tokens.push(`token-${generation}`);
        const expiresAtMs = Date.now() + 60_000;
        const value = `token-${generation}`;
        return new AccessToken({ value, type: 'Bearer', expiresAtMs, scope: '', generation });
      },
    };
    const wrapped = agent.compose(accessToken(each));
    await Promise.all(
      Array.from({ length: 20 }, () => request(api.origin, { dispatcher: wrapped })),
    );
    const carried = api.requests.map(({ headers }) => String(headers['authorization']).slice(7));
    expect(carried.toSorted()).toEqual(tokens.toSorted());
  });
});

describe('DPoP', () => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const proofs = () => api.requests.map(({ headers }) => decodeJwt(String(headers['dpop'])));
  const challenge = (nonce: string) =>
    respond({
      status: 401,
      headers: { 'dpop-nonce': nonce, 'www-authenticate': 'DPoP error="use_dpop_nonce"' },
    });
  beforeEach(() => {
    source = service({ dpop: { key: privateKey } });
    dispatcher = agent.compose(accessToken(source));
  });

  it('proves each request anew, for its method, URL and token', async () => {
    await request(`${api.origin}/a?b=c`, { dispatcher, method: 'POST' });
    await request(`${api.origin}/d`, { dispatcher });
    expect(authorization(0)).toMatch(/^DPoP ey/);
    expect(proofs()).toMatchObject([
      { htm: 'POST', htu: `${api.origin}/a`, ath: expect.any(String) },
      { htm: 'GET', htu: `${api.origin}/d`, ath: expect.any(String) },
    ]);
    expect(proofs()[0]?.jti).not.toBe(proofs()[1]?.jti);
  });

  it('takes the nonce of a refusal and repeats once with the same token', async () => {
    api.enqueue(challenge('n1'));
    expect((await get()).statusCode).toBe(200);
    expect(proofs().map(({ nonce }) => nonce)).toEqual([undefined, 'n1']);
    expect(authorization(0)).toBe(authorization(1));
    expect(server.count('token')).toBe(1);
  });

  it('takes the nonce of a refusal for all requests that did not have it', async () => {
    const knows = (nonce: string): Script => respond({ body: nonce });
    const demanding = await startScriptedServer({
      otherwise: ({ headers }) =>
        decodeJwt(String(headers['dpop']))['nonce'] === 'n1' ? knows('n1') : challenge('n1'),
    });
    const many = await Promise.all(
      Array.from({ length: 20 }, () => request(demanding.origin, { dispatcher })),
    );
    expect(many.map(({ statusCode }) => statusCode)).toEqual(many.map(() => 200));
    await demanding.stop();
  });

  it('takes the nonce of any answer for the next request', async () => {
    api.enqueue(respond({ headers: { 'dpop-nonce': 'n2' } }));
    await get();
    await get();
    expect(proofs().map(({ nonce }) => nonce)).toEqual([undefined, 'n2']);
  });

  it('does not go on when the server wants the nonce it was given', async () => {
    api.enqueue(challenge('n1'), challenge('n1'), challenge('n1'));
    expect((await get()).statusCode).toBe(401);
    expect((await get()).statusCode).toBe(401);
    expect(api.requests).toHaveLength(3);
  });

  const refusal = (error: string, nonce?: string) =>
    respond({
      status: 401,
      headers: {
        'www-authenticate': `DPoP error="${error}"`,
        ...(nonce === undefined ? {} : { 'dpop-nonce': nonce }),
      },
    });
  const carried = () =>
    api.requests.map(({ headers }, index) => [
      headers['authorization'],
      proofs()[index]?.['nonce'],
    ]);

  it('repeats for the nonce and then for a new token, once each', async () => {
    const { value: old } = await source.getToken();
    api.enqueue(challenge('n1'), refusal('invalid_token'));
    expect((await get({ method: 'POST', body: 'pay' })).statusCode).toBe(200);
    const { value } = await source.getToken();
    expect(carried()).toEqual([
      [`DPoP ${old}`, undefined],
      [`DPoP ${old}`, 'n1'],
      [`DPoP ${value}`, 'n1'],
    ]);
    expect(new Set(proofs().map(({ jti }) => jti)).size).toBe(3);
    expect(server.count('token')).toBe(2);
  });

  it('repeats for a new token and then for the nonce, once each', async () => {
    const { value: old } = await source.getToken();
    api.enqueue(refusal('invalid_token'), challenge('n1'));
    expect((await get()).statusCode).toBe(200);
    const { value } = await source.getToken();
    expect(carried()).toEqual([
      [`DPoP ${old}`, undefined],
      [`DPoP ${value}`, undefined],
      [`DPoP ${value}`, 'n1'],
    ]);
  });

  it('takes the nonce that comes with invalid_token along: one repetition is enough', async () => {
    api.enqueue(refusal('invalid_token', 'n1'));
    expect((await get()).statusCode).toBe(200);
    expect(proofs().map(({ nonce }) => nonce)).toEqual([undefined, 'n1']);
    expect(server.count('token')).toBe(2);
  });

  it.each([
    ['nonces without end', ['use_dpop_nonce', 'use_dpop_nonce', 'use_dpop_nonce'], 2],
    ['new tokens without end', ['invalid_token', 'invalid_token', 'invalid_token'], 2],
    ['both, again and again', ['use_dpop_nonce', 'invalid_token', 'use_dpop_nonce'], 3],
  ])('does not follow a server that wants %s', async (_, errors, sent) => {
    for (const [index, error] of errors.entries()) api.enqueue(refusal(error, `n${index}`));
    expect((await get()).statusCode).toBe(401);
    expect(api.requests).toHaveLength(sent);
  });

  it('keeps the nonces of origins and of the authorization server apart', async () => {
    const nonces = await startOAuthServer({
      defaultResource: 'https://api.example.com',
      dpopNonceRequired: true,
    });
    const second = await startScriptedServer();
    const { clientId, privateKey: key, keyId } = nonces.clients.service;
    const own = clientCredentials({
      issuer: nonces.issuer,
      allowInsecureLoopback: true,
      clientId,
      clientAuth: privateKeyJwt(key, { keyId }),
      dpop: { key: privateKey },
    });
    const origins = [api.origin, second.origin];
    const both = agent.compose(accessToken(own, { origins }));
    api.enqueue(respond({ headers: { 'dpop-nonce': 'api' } }));
    for (const origin of [...origins, ...origins]) await request(origin, { dispatcher: both });
    await own.getToken({ forceRenewal: true });
    expect(proofs().map(({ nonce }) => nonce)).toEqual([undefined, 'api']);
    const others = second.requests.map(({ headers }) => decodeJwt(String(headers['dpop'])));
    expect(others.map(({ nonce }) => nonce)).toEqual([undefined, undefined]);
    expect(nonces.requests.filter(({ endpoint }) => endpoint === 'token')).toMatchObject([
      { status: 400 },
      { status: 200 },
      { status: 200 },
    ]);
    await nonces.stop();
    await second.stop();
  });
});
