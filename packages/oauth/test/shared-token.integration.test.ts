import { subscribe } from 'node:diagnostics_channel';
import { fakeClock } from '@countersign/testkit/clock';
import {
  respond,
  respondJson,
  type Script,
  type ScriptedServer,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  type ClientCredentialsOptions,
  clientCredentials,
  clientSecretBasic,
  memoryTokenStore,
  type TokenStore,
} from '../src/index.ts';

const REQUEST = 'countersign:oauth:request';
const clock = fakeClock();
let server: ScriptedServer;
let store: TokenStore;
beforeEach(async () => {
  // What renews a lease ticks when the test says so; sockets and waits go on by themselves.
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  server = await startScriptedServer();
  store = memoryTokenStore({ now: clock.now });
});
afterEach(async () => {
  vi.useRealTimers();
  await server.stop();
});

/** One process of a fleet that shares a store. */
const instance = (options: Partial<ClientCredentialsOptions> = {}) =>
  clientCredentials({
    server: { issuer: server.origin, token_endpoint: `${server.origin}/token` },
    allowInsecureLoopback: true,
    clientId: 'client',
    clientAuth: clientSecretBasic('a secret for these tests'),
    retries: 0,
    store,
    ...options,
  });
const good = respondJson({ access_token: 'shared', token_type: 'Bearer', expires_in: 600 });
/** Does as `script` does, when it is let. */
const held = (script: Script) => {
  let release = () => {};
  const turn = new Promise<void>((resolve) => {
    release = resolve;
  });
  const run: Script['run'] = async (exchange) => {
    await turn;
    await script.run(exchange);
  };
  return { script: { ...script, run }, release };
};
const pass = async (ms: number) => {
  clock.advance(ms);
  await vi.advanceTimersByTimeAsync(ms);
};

describe('an authorization server that is slow', () => {
  it('is asked once, however long it takes', async () => {
    const slow = held(good);
    server.enqueue(slow.script);
    const first = instance().getToken();
    await expect.poll(() => server.requests.length).toBe(1);
    const waiting = [instance().getToken(), instance().getToken()];
    for (let seconds = 0; seconds < 60; seconds += 3) await pass(3000);
    const late = instance().getToken();
    slow.release();
    for (const one of [first, late, ...waiting]) expect((await one).value).toBe('shared');
    expect(server.requests).toHaveLength(1);
  });

  it('and fails in the end leaves nobody waiting for it', async () => {
    const slow = held(respond({ status: 500 }));
    server.enqueue(slow.script);
    const first = instance().getToken();
    await expect.poll(() => server.requests.length).toBe(1);
    await pass(9000);
    slow.release();
    await expect(first).rejects.toMatchObject({ code: 'ERR_OAUTH_UNAVAILABLE' });
    await pass(9000);
    server.enqueue(good);
    expect((await instance().getToken()).value).toBe('shared');
  });

  it('keeps nobody waiting through a lease that is renewed when all is over', async () => {
    let claims = 0;
    let arrive = () => {};
    const late = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    const slowStore: TokenStore = {
      ...store,
      claim: async (...args) => {
        claims += 1;
        if (claims > 1) await late;
        return store.claim(...args);
      },
    };
    const answered = new Promise<unknown>((resolve) => subscribe(REQUEST, resolve));
    const slow = held(respond({ status: 500 }));
    server.enqueue(slow.script, good);
    const first = instance({ store: slowStore }).getToken();
    await expect.poll(() => server.requests.length).toBe(1);
    await pass(4000);
    expect(claims).toBe(2);
    slow.release();
    await answered;
    for (let turn = 0; turn < 20; turn += 1) await new Promise((next) => setImmediate(next));
    arrive();
    await expect(first).rejects.toMatchObject({ status: 500 });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(claims).toBe(2);
    expect((await instance({ timeoutMs: 1000 }).getToken()).value).toBe('shared');
  });
});

describe('while this process leaves a failing server alone', () => {
  const broken = async (source: ReturnType<typeof instance>) => {
    for (let failure = 0; failure < 5; failure += 1) {
      server.enqueue(respond({ status: 500 }));
      await expect(source.getToken()).rejects.toMatchObject({ status: 500 });
    }
  };
  const fromElsewhere = () => {
    // Another process, whose server answers: the same name, and a breaker of its own.
    const token_endpoint = `${server.origin}/elsewhere`;
    return instance({ server: { issuer: server.origin, token_endpoint } });
  };

  it('it takes the token that another process has got since', async () => {
    const here = instance({ now: clock.now });
    await broken(here);
    await expect(here.getToken()).rejects.toMatchObject({
      code: 'ERR_OAUTH_UNAVAILABLE',
      retryAfterMs: expect.any(Number),
    });
    server.enqueue(good);
    await fromElsewhere().getToken();
    expect((await here.getToken()).value).toBe('shared');
    expect(server.requests).toHaveLength(6);
  });

  it('it does not keep others from asking, and takes what they get', async () => {
    const here = instance({ retries: 1 });
    const impatient = instance();
    await broken(impatient);
    // It waits: the server is left alone for less time than a call may take.
    const waiting = here.getToken();
    server.enqueue(good);
    const elsewhere = await fromElsewhere().getToken();
    expect((await waiting).value).toBe(elsewhere.value);
    expect(server.requests.slice(5).map(({ target }) => target)).toEqual(['/elsewhere']);
  });
});
