import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { inspect } from 'node:util';
import {
  decompressionBomb,
  drip,
  endlessBody,
  informationalFlood,
  rawBytes,
  resetAfterHeaders,
  resetMidBody,
  resetOnAccept,
  resetOnRequest,
  respond,
  respondJson,
  retryAfter,
  type Script,
  type ScriptedServer,
  silence,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import fc from 'fast-check';
import { Redis } from 'ioredis';
import { decodeJwt } from 'jose';
import { Agent, interceptors } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  accessToken,
  authorizationCode,
  authorizationUrl,
  type ClientCredentialsOptions,
  clientCredentials,
  clientSecretPost,
  introspector,
  memoryTokenStore,
  OAuthError,
  privateKeyJwt,
  refreshToken,
  revokeToken,
  tokenExchange,
  workloadIdentity,
} from '../src/index.ts';
import { redisTokenStore } from '../src/redis.ts';

const SECRET = 'client-secret-0123456789';
let server: ScriptedServer;
beforeAll(async () => {
  server = await startScriptedServer();
});
afterAll(() => server.stop());

/** A scripted token endpoint; each path has a breaker of its own. */
let paths = 0;
const source = (options: Partial<ClientCredentialsOptions> = {}) => {
  paths += 1;
  return clientCredentials({
    server: { issuer: server.origin, token_endpoint: `${server.origin}/token/${paths}` },
    allowInsecureLoopback: true,
    clientId: 'client',
    clientAuth: clientSecretPost(SECRET),
    retries: 0,
    ...options,
  });
};
const discovering = () => {
  const { issuer } = { issuer: server.origin };
  return clientCredentials({
    issuer,
    allowInsecureLoopback: true,
    clientId: 'client',
    clientAuth: clientSecretPost(SECRET),
    retries: 0,
  });
};
const outcome = async (script: Script, options?: Partial<ClientCredentialsOptions>) => {
  server.enqueue(script);
  return source(options)
    .getToken()
    .catch((error: unknown) => error);
};
const good = { access_token: 'opaque-token', token_type: 'Bearer', expires_in: 600 };

describe('the token response', () => {
  it.each([
    ['expires_in: -1', { ...good, expires_in: -1 }],
    ['expires_in: 0', { ...good, expires_in: 0 }],
    ['expires_in: "3600"', { ...good, expires_in: '3600' }],
    ['expires_in: 1e9', { ...good, expires_in: 1e9 }],
    ['expires_in: 1.5', { ...good, expires_in: 1.5 }],
    ['expires_in: null', { ...good, expires_in: null }],
    ['an unknown token_type', { ...good, token_type: 'mac' }],
    ['no token_type', { access_token: 'x' }],
    ['an empty access_token', { ...good, access_token: '' }],
    ['no access_token', { token_type: 'Bearer' }],
    ['a number for access_token', { ...good, access_token: 7 }],
    ['an access_token that splits headers', { ...good, access_token: 'a\r\nx: y' }],
    ['a list', [good]],
    ['null', null],
  ])('%s is an error', async (_, body) => {
    expect(await outcome(respondJson(body))).toMatchObject({ code: 'ERR_OAUTH_RESPONSE' });
  });

  it('of type DPoP is an error where nothing was to be bound', async () => {
    expect(await outcome(respondJson({ ...good, token_type: 'DPoP' }))).toMatchObject({
      code: 'ERR_OAUTH_DPOP',
    });
  });

  it('of type Bearer is an error where it was to be bound', async () => {
    expect(await outcome(respondJson(good), { dpop: true })).toMatchObject({
      code: 'ERR_OAUTH_DPOP',
    });
  });

  it('without expires_in gives a token that lives as long as documented', async () => {
    const { expires_in: _, ...rest } = good;
    const now = () => 1_000_000;
    expect(await outcome(respondJson(rest), { now })).toMatchObject({
      expiresAtMs: 1_000_000 + 300_000,
    });
    expect(await outcome(respondJson(rest), { now, defaultExpiresInSeconds: 60 })).toMatchObject({
      expiresAtMs: 1_060_000,
    });
  });

  it('is judged the same whatever JSON it is: a token or a coded error', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record(
          {
            access_token: fc.oneof(fc.string(), fc.jsonValue()),
            token_type: fc.oneof(fc.constantFrom('bearer', 'BEARER', 'DPoP'), fc.jsonValue()),
            expires_in: fc.oneof(fc.integer(), fc.jsonValue()),
            scope: fc.jsonValue(),
            refresh_token: fc.jsonValue(),
          },
          { requiredKeys: [] },
        ),
        async (body) => {
          const result = await outcome(respondJson(body));
          if (result instanceof OAuthError) {
            expect(result.code).toMatch(/^ERR_OAUTH_(RESPONSE|DPOP)$/);
          } else expect(result).toMatchObject({ type: 'Bearer', value: body.access_token });
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('the token endpoint', () => {
  const html = { 'content-type': 'text/html' };
  it.each<[string, Script, string]>([
    ['HTML with status 200', respond({ headers: html, body: '<html>' }), 'ERR_OAUTH_RESPONSE'],
    [
      'JSON that is none',
      respond({ headers: { 'content-type': 'application/json' }, body: '{' }),
      'ERR_OAUTH_RESPONSE',
    ],
    ['JSON without its type', respond({ body: JSON.stringify(good) }), 'ERR_OAUTH_RESPONSE'],
    [
      'a refusal in HTML',
      respond({ status: 403, headers: html, body: '<html>' }),
      'ERR_OAUTH_RESPONSE',
    ],
    [
      'a refusal',
      respondJson({ error: 'unauthorized_client' }, { status: 400 }),
      'ERR_OAUTH_REFUSED',
    ],
    [
      'a redirect',
      respond({ status: 307, headers: { location: '/elsewhere' } }),
      'ERR_OAUTH_REDIRECT',
    ],
    ['an odd status', respond({ status: 999 }), 'ERR_OAUTH_RESPONSE'],
    ['204', respond({ status: 204 }), 'ERR_OAUTH_RESPONSE'],
    ['500', respond({ status: 500 }), 'ERR_OAUTH_UNAVAILABLE'],
    ['429', retryAfter('7', 429), 'ERR_OAUTH_UNAVAILABLE'],
    ['an endless body', endlessBody(), 'ERR_OAUTH_RESPONSE_TOO_LARGE'],
    ['10 MB', respond({ body: Buffer.alloc(10_000_000, 'x') }), 'ERR_OAUTH_RESPONSE_TOO_LARGE'],
    ['a compressed bomb', decompressionBomb(50_000_000), 'ERR_OAUTH_RESPONSE'],
    ['a reset at once', resetOnAccept(), 'ERR_OAUTH_NETWORK'],
    ['a reset after the request', resetOnRequest(), 'ERR_OAUTH_NETWORK'],
    ['a reset after the head', resetAfterHeaders(), 'ERR_OAUTH_NETWORK'],
    ['a reset in the body', resetMidBody({ body: '{"access' }, 100), 'ERR_OAUTH_NETWORK'],
    ['silence', silence(), 'ERR_OAUTH_TIMEOUT'],
    ['a drip', drip(100, { body: 'x'.repeat(100) }), 'ERR_OAUTH_TIMEOUT'],
  ])('answers with %s: a coded error, and nothing more is sent', async (_, script, code) => {
    // A reset on accept is for new connections.
    const fresh = await startScriptedServer();
    fresh.enqueue(script);
    const { requests } = fresh;
    const metadata = { issuer: fresh.origin, token_endpoint: `${fresh.origin}/token` };
    const attemptTimeoutMs = code === 'ERR_OAUTH_TIMEOUT' ? 300 : 30_000;
    const error = await source({ server: metadata, attemptTimeoutMs, timeoutMs: 30_000 })
      .getToken()
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'OAuthError', code });
    expect(requests).toHaveLength(1);
    await fresh.stop();
  });

  it('that takes connections and says nothing is given up in time, connecting included', async () => {
    const hole = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
    await once(hole, 'listening');
    const issuer = `https://127.0.0.1:${(hole.address() as AddressInfo).port}`;
    const dispatcher = new Agent();
    const metadata = { issuer, token_endpoint: `${issuer}/token` };
    const startedAt = performance.now();
    const pending = source({ server: metadata, dispatcher, attemptTimeoutMs: 100 }).getToken();
    await expect(pending).rejects.toMatchObject({ code: 'ERR_OAUTH_TIMEOUT' });
    // Undici alone would be at it for ten seconds.
    expect(performance.now() - startedAt).toBeLessThan(5000);
    await dispatcher.destroy();
    hole.close();
  });

  it('does not get a credential sent elsewhere, not by a dispatcher that follows redirects either', async () => {
    const elsewhere = await startScriptedServer({ otherwise: respondJson(good) });
    const agent = new Agent();
    const dispatcher = agent.compose(interceptors.redirect({ maxRedirections: 5 }));
    const redirect = respond({ status: 307, headers: { location: `${elsewhere.origin}/token` } });
    expect(await outcome(redirect, { dispatcher })).toMatchObject({ code: 'ERR_OAUTH_REDIRECT' });
    expect(elsewhere.requests).toHaveLength(0);
    await agent.destroy();
    await elsewhere.stop();
  });

  it('may send informational responses first', async () => {
    expect(await outcome(informationalFlood(20, respondJson(good)))).toMatchObject({
      type: 'Bearer',
    });
  });

  it('tells how long to wait, garbage excepted', async () => {
    expect(await outcome(retryAfter('7', 429))).toMatchObject({ status: 429, retryAfterMs: 7000 });
    const garbage = await outcome(retryAfter('-1 or so', 503));
    expect(garbage).toMatchObject({ status: 503 });
    expect(garbage).not.toHaveProperty('retryAfterMs');
  });

  it('changes its DPoP nonce with a success, and the next proof has the new one', async () => {
    const fresh = await startScriptedServer();
    const bound = { ...good, token_type: 'DPoP' };
    for (const nonce of ['n1', 'n2']) {
      fresh.enqueue(respondJson(bound, { headers: { 'dpop-nonce': nonce } }));
    }
    const server = { issuer: fresh.origin, token_endpoint: `${fresh.origin}/token` };
    const tokens = source({ dpop: true, server });
    await tokens.getToken();
    await tokens.getToken({ forceRenewal: true });
    const proofs = fresh.requests.map(({ headers }) => decodeJwt(String(headers['dpop'])));
    expect(proofs.map(({ nonce }) => nonce)).toEqual([undefined, 'n1']);
    await fresh.stop();
  });

  it('gives its DPoP nonce to all requests that did not have it', async () => {
    const fresh = await startScriptedServer({
      otherwise: ({ headers }) =>
        decodeJwt(String(headers['dpop']))['nonce'] === 'n1'
          ? respondJson({ ...good, token_type: 'DPoP' })
          : respondJson(
              { error: 'use_dpop_nonce' },
              { status: 400, headers: { 'dpop-nonce': 'n1' } },
            ),
    });
    const server = { issuer: fresh.origin, token_endpoint: `${fresh.origin}/token` };
    const tokens = source({ dpop: true, server });
    const scopes = Array.from({ length: 10 }, (_, index) => `s${index}`);
    const all = await Promise.all(scopes.map((scope) => tokens.getToken({ scope })));
    expect(all.map(({ scope }) => scope)).toEqual(scopes);
    await fresh.stop();
  });

  it('that is silent for as long as calls may take is left alone after five', async () => {
    const silent = await startScriptedServer({ otherwise: silence() });
    const ask = () =>
      source({
        server: { issuer: silent.origin, token_endpoint: `${silent.origin}/token` },
        timeoutMs: 200,
      }).getToken();
    for (let call = 0; call < 5; call += 1) {
      await expect(ask()).rejects.toMatchObject({ code: 'ERR_OAUTH_TIMEOUT' });
    }
    await expect(ask()).rejects.toMatchObject({ code: 'ERR_OAUTH_UNAVAILABLE' });
    expect(silent.requests).toHaveLength(5);
    await silent.stop();
  });

  it('that refuses the nonce it gave is not asked for ever', async () => {
    const fresh = await startScriptedServer({
      otherwise: respondJson(
        { error: 'use_dpop_nonce' },
        { status: 400, headers: { 'dpop-nonce': 'same' } },
      ),
    });
    const server = { issuer: fresh.origin, token_endpoint: `${fresh.origin}/token` };
    await expect(source({ dpop: true, server }).getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_DPOP',
    });
    expect(fresh.requests).toHaveLength(2);
    await fresh.stop();
  });

  it('cannot get a secret into an error', async () => {
    const echo = { error: 'invalid_client', error_description: `wrong secret ${SECRET}\r\nx` };
    const error = await outcome(respondJson(echo, { status: 401 }));
    expect(error).toMatchObject({
      code: 'ERR_OAUTH_REFUSED',
      error: 'invalid_client',
      status: 401,
    });
    // Neither the beginning of one that is cut off, nor one that is more than letters and digits.
    for (const [secret, part] of [
      [SECRET, 'client-sec'],
      ['q7!k@Wz#9$Lm%2^x&Rb*4(tY', 'q7!k'],
    ] as const) {
      const error_description = `${'no '.repeat(63)}${secret}`;
      const cut = await outcome(
        respondJson({ error: 'denied', error_description }, { status: 400 }),
      );
      expect(cut).toMatchObject({ error: 'denied', message: expect.not.stringContaining(part) });
    }
    const leak = await outcome(
      respondJson({ ...good, token_type: 'odd', access_token: 'leaked-token' }),
    );
    // More than it said it would send: the parser's own error quotes what it could not read.
    const body = JSON.stringify({ ...good, access_token: 'leaked-token' });
    const torn = await outcome(rawBytes(`HTTP/1.1 200 OK\r\nwrong header ${body}\r\n\r\n`));
    expect(torn).toMatchObject({ code: 'ERR_OAUTH_NETWORK' });
    // So does that of a dispatcher which throws for a status.
    const agent = new Agent();
    const dispatcher = agent.compose(interceptors.responseError());
    const thrown = await outcome(respondJson(echo, { status: 401 }), { dispatcher });
    expect(thrown).toMatchObject({ code: 'ERR_OAUTH_NETWORK' });
    await agent.destroy();
    for (const one of [error, leak, torn, thrown]) {
      const shown = inspect(one, { depth: 9, showHidden: true }) + JSON.stringify(one);
      expect(shown).not.toContain(SECRET);
      expect(shown).not.toContain('leaked-token');
    }
  });
});

describe('the metadata', () => {
  const failure = async (...scripts: Script[]) => {
    server.enqueue(...scripts);
    return discovering()
      .getToken()
      .catch((error: unknown) => error);
  };
  it.each<[string, () => Script[]]>([
    ['another issuer', () => [respondJson({ issuer: 'https://evil.example' })]],
    ['the issuer with a slash', () => [respondJson({ issuer: `${server.origin}/` })]],
    ['no issuer', () => [respondJson({})]],
    ['no token_endpoint', () => [respondJson({ issuer: server.origin })]],
    [
      'an endpoint that is no URL',
      () => [respondJson({ issuer: server.origin, token_endpoint: '/token' })],
    ],
    ['HTML', () => [respond({ body: '<html>', headers: { 'content-type': 'text/html' } })]],
    ['nothing, anywhere', () => [respond({ status: 404 }), respond({ status: 404 })]],
    ['a redirect', () => [respond({ status: 302, headers: { location: '/x' } })]],
  ])('with %s is an error', async (_, scripts) => {
    expect(await failure(...scripts())).toMatchObject({ code: 'ERR_OAUTH_METADATA' });
  });

  it('that does not come, and a secret that does not, are not waited for longer than a call may take', async () => {
    server.enqueue(silence());
    const patient = { timeoutMs: 50, attemptTimeoutMs: 3_600_000, retries: 0 };
    const slow = clientCredentials({
      issuer: server.origin,
      allowInsecureLoopback: true,
      clientId: 'client',
      clientAuth: clientSecretPost(SECRET),
      ...patient,
    });
    await expect(slow.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_METADATA' });
    const client = {
      ...patient,
      issuer: `${server.origin}/silent`,
      allowInsecureLoopback: true,
      clientId: 'client',
      clientAuth: clientSecretPost(SECRET),
    };
    server.enqueue(silence(), silence(), silence());
    const redirectUri = 'https://app.example.com/callback';
    const pending = { redirectUri, state: 's', codeVerifier: 'v' };
    const discoveries = [
      refreshToken({ ...client, initial: 'r', store: memoryTokenStore() }).getToken(),
      authorizationUrl({ ...client }, { redirectUri }),
      authorizationCode({ ...client }, `${redirectUri}?code=c&state=s`, pending),
    ];
    for (const outcome of await Promise.allSettled(discoveries)) {
      expect(outcome).toMatchObject({ reason: { code: 'ERR_OAUTH_METADATA' } });
    }
    const never = () => new Promise<never>(() => {});
    const elsewhere = {
      ...patient,
      server: { issuer: server.origin, token_endpoint: `${server.origin}/token` },
      allowInsecureLoopback: true,
      clientId: 'client',
    };
    const store = memoryTokenStore();
    for (const clientAuth of [clientSecretPost(never), privateKeyJwt(never)]) {
      const waiting = source({ ...patient, clientAuth }).getToken();
      await expect(waiting).rejects.toMatchObject({ code: 'ERR_OAUTH_CREDENTIAL' });
      const grant = refreshToken({ ...elsewhere, clientAuth, initial: 'r', store });
      await expect(grant.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_CREDENTIAL' });
    }
    const subjectToken = { getToken: never };
    const clientAuth = clientSecretPost(SECRET);
    const exchange = tokenExchange({ ...elsewhere, clientAuth, subjectToken });
    await expect(exchange.getToken()).rejects.toMatchObject({ code: 'ERR_OAUTH_TIMEOUT' });
  });

  it('with challenge methods that are no list, or lack S256, begins no authorization', async () => {
    const authorization_endpoint = `${server.origin}/authorize`;
    for (const code_challenge_methods_supported of [5, {}, [], ['plain']]) {
      const metadata = { issuer: server.origin, authorization_endpoint };
      server.enqueue(respondJson({ ...metadata, code_challenge_methods_supported }));
      const client = {
        issuer: server.origin,
        allowInsecureLoopback: true,
        clientId: 'client',
        clientAuth: clientSecretPost(SECRET),
      };
      const started = authorizationUrl(client, { redirectUri: 'https://app.example.com/' });
      await expect(started).rejects.toMatchObject({ code: 'ERR_OAUTH_METADATA' });
    }
  });

  it('with an endpoint over http elsewhere is an error', async () => {
    const body = { issuer: server.origin, token_endpoint: 'http://auth.example.com/token' };
    expect(await failure(respondJson(body))).toMatchObject({ code: 'ERR_OAUTH_INSECURE_URL' });
  });

  it('is looked for where OpenID Connect has it when it is not where RFC 8414 has it', async () => {
    const before = server.requests.length;
    const body = { issuer: server.origin, token_endpoint: `${server.origin}/discovered` };
    server.enqueue(respond({ status: 404 }), respondJson(body), respondJson(good));
    expect(await discovering().getToken()).toMatchObject({ type: 'Bearer' });
    expect(server.requests.slice(before).map(({ target }) => target)).toEqual([
      '/.well-known/oauth-authorization-server',
      '/.well-known/openid-configuration',
      '/discovered',
    ]);
  });
});

describe('options', () => {
  const createKey = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const options = { clientId: 'c', clientAuth: clientSecretPost('s') };
  it.each(['retries', 'timeoutMs', 'attemptTimeoutMs', 'maxResponseBytes'] as const)(
    'refuse a %s that bounds nothing',
    (name) => {
      for (const value of [Number.NaN, -1, 1e12, '5' as never]) {
        expect(() => source({ [name]: value })).toThrow(TypeError);
        expect(() => source({ [name]: value })).toThrow(name);
      }
    },
  );

  it('refuse http, except on loopback and by name', () => {
    const insecure = { code: 'ERR_OAUTH_INSECURE_URL' };
    const build = (issuer: string, allowInsecureLoopback?: boolean) => () =>
      clientCredentials({
        ...options,
        issuer,
        ...(allowInsecureLoopback ? { allowInsecureLoopback } : {}),
      });
    expect(build('http://auth.example.com', true)).toThrow(expect.objectContaining(insecure));
    expect(build('http://127.0.0.1')).toThrow(expect.objectContaining(insecure));
    expect(build('http://127.0.0.1.evil.example', true)).toThrow(expect.objectContaining(insecure));
    expect(build('http://127.0.0.1', true)).not.toThrow();
    expect(build('https://auth.example.com')).not.toThrow();
  });

  it.each([
    [{ issuer: 'nonsense' }, /issuer/],
    [{ clientId: '' }, /clientId/],
    [{ clientAuth: {} as never }, /clientAuth/],
    [{ renewBeforeSeconds: 0 }, /renewBeforeSeconds/],
    [{ defaultExpiresInSeconds: Number.NaN }, /defaultExpiresInSeconds/],
    [{ parameters: { scope: 'x' } }, /parameters\.scope/],
    [{ dpop: { key: 'no key' } }, /dpop\.key/],
    [{ dpop: { key: createKey(), thumbprint: 'x' } as never }, /thumbprint/],
    [{ scope: ['a', 'b'] as never }, /scope/],
    [{ resource: '' }, /resource/],
    [{ resource: ['https://a.example', undefined] as never }, /resource/],
    [{ audience: ['a'] as never }, /audience/],
    [{ parameters: 'a=b' as never }, /parameters/],
    [{ now: 5 as never }, /now/],
    [{ dispatcher: {} as never }, /dispatcher/],
    [{ store: { claim: () => {} } as never }, /store/],
    [{ allowInsecureLoopback: 'false' as never }, /allowInsecureLoopback/],
    [{ scopes: 'a' } as never, /scopes: there is no such option/],
  ])('%j is a TypeError that names the option', (wrong, name) => {
    const build = () => clientCredentials({ ...options, issuer: 'https://a.example', ...wrong });
    expect(build).toThrow(TypeError);
    expect(build).toThrow(name);
  });

  it('that there are not are refused wherever options are taken', async () => {
    const client = { ...options, issuer: 'https://a.example' };
    const redirectUri = 'https://a.example/';
    const pending = { redirectUri, state: 's', codeVerifier: 'v' };
    const key = createKey();
    const wrong = { typo: 1 } as object;
    const takers: [string, () => unknown][] = [
      ['clientCredentials', () => clientCredentials({ ...client, ...wrong })],
      [
        'refreshToken',
        () => refreshToken({ ...client, initial: 'r', store: memoryTokenStore(), ...wrong }),
      ],
      ['tokenExchange', () => tokenExchange({ ...client, subjectToken: 's', ...wrong })],
      ['introspector', () => introspector({ ...client, audience: 'a', ...wrong })],
      ['authorizationUrl', () => authorizationUrl({ ...client, ...wrong }, { redirectUri })],
      ['its request', () => authorizationUrl({ ...client }, { redirectUri, ...wrong })],
      ['authorizationCode', () => authorizationCode({ ...client, ...wrong }, 'code=c', pending)],
      ['revokeToken', () => revokeToken({ ...client, ...wrong }, 't')],
      ['its options', () => revokeToken({ ...client }, 't', wrong)],
      ['accessToken', () => accessToken(clientCredentials(client), wrong)],
      ['memoryTokenStore', () => memoryTokenStore(wrong)],
      ['redisTokenStore', () => redisTokenStore(new Redis({ lazyConnect: true }), wrong as never)],
      ['privateKeyJwt', () => privateKeyJwt(key, wrong)],
      ['workloadIdentity', () => workloadIdentity({ tokenFile: 'f', ...wrong })],
    ];
    for (const [taker, take] of takers) {
      const taken = Promise.resolve().then(take);
      await expect(taken, taker).rejects.toThrow(TypeError);
      await expect(taken, taker).rejects.toThrow('typo: there is no such option');
    }
  });

  it('of the wrong type are named', async () => {
    const client = { ...options, issuer: 'https://a.example' };
    const wrong = 5 as never;
    const redirectUri = 'https://a.example/';
    const takers: [RegExp, () => unknown][] = [
      [/subjectToken/, () => tokenExchange({ ...client, subjectToken: null as never })],
      [
        /requestedTokenType/,
        () => tokenExchange({ ...client, subjectToken: 's', requestedTokenType: wrong }),
      ],
      [/scope/, () => introspector({ ...client, audience: 'a', scope: wrong })],
      [/origins/, () => accessToken(clientCredentials(client), { origins: 'https://a' as never })],
      [/scope/, () => accessToken(clientCredentials(client), { scope: wrong })],
      [/resource/, () => accessToken(clientCredentials(client), { resource: '' })],
      [/scope/, () => authorizationUrl({ ...client }, { redirectUri, scope: wrong })],
      [
        /parameters\.prompt/,
        () => authorizationUrl({ ...client }, { redirectUri, parameters: { prompt: wrong } }),
      ],
      [/now/, () => memoryTokenStore({ now: wrong })],
      [
        /prefix/,
        () => redisTokenStore(new Redis({ lazyConnect: true }), { prefix: wrong } as never),
      ],
      [
        /timeoutMs/,
        () => redisTokenStore(new Redis({ lazyConnect: true }), { timeoutMs: Number.NaN } as never),
      ],
    ];
    for (const [name, take] of takers) {
      const taken = Promise.resolve().then(take);
      await expect(taken, String(name)).rejects.toThrow(TypeError);
      await expect(taken, String(name)).rejects.toThrow(name);
    }
  });

  it('of a call that are wrong reject it, and nothing is asked', async () => {
    const before = server.requests.length;
    for (const wrong of [{ scope: ['a'] }, { resource: '' }, { resource: [5] }]) {
      await expect(source().getToken(wrong as never)).rejects.toThrow(/^(scope|resource) must/);
    }
    expect(server.requests).toHaveLength(before);
  });
});
