import { describe, expect, onTestFinished, test } from 'vitest';
import { apiKey, ClientError, type ClientOptions, createClient } from '../src/index.ts';
import { FakeDispatcher } from './fake-dispatcher.ts';
import { json, serve } from './server.ts';

function clientFor(origin: string, options: Partial<ClientOptions> = {}) {
  const client = createClient({
    origin,
    egress: { allow: ['http://127.0.0.1:*'] },
    retry: { baseMs: 1, capMs: 2 },
    maxRedirects: 3,
    interceptors: [apiKey('sk-live-secret'), apiKey('sk-live-secret', { header: 'x-api-key' })],
    headers: { 'x-tenant': 'secret-tenant' },
    ...options,
  });
  onTestFinished(() => client.close());
  return client;
}

const to = (status: number, location: string) => json(status, {}, { location });

async function failure(call: Promise<unknown>): Promise<ClientError> {
  const error = await call.catch((reason: unknown) => reason);
  if (!(error instanceof ClientError)) throw new TypeError('a ClientError was expected');
  return error;
}

describe('redirects', () => {
  test('a body that goes with a GET never reaches another origin', async () => {
    const other = await serve(json(200, {}));
    const { origin, seen } = await serve(to(302, other.origin));
    const call = clientFor(origin).request('GET', '/', { json: { secret: 1 } });
    expect((await failure(call)).code).toBe('ERR_CLIENT_REDIRECT');
    expect([seen.length, other.seen.length]).toEqual([1, 0]);
  });

  test('https never becomes http', async () => {
    const egress = new FakeDispatcher(() => ({
      status: 302,
      headers: { location: 'http://api.example.com/' },
    }));
    const client = clientFor('https://api.example.com', { egress });
    expect((await failure(client.get('/'))).code).toBe('ERR_CLIENT_REDIRECT');
    expect(egress.requests.length).toBe(1);
  });

  test('are returned as they are by default', async () => {
    const { origin, seen } = await serve(to(302, '/elsewhere'));
    const { status, headers } = await clientFor(origin, { maxRedirects: 0 }).get('/');
    expect([status, headers['location'], seen.length]).toEqual([302, '/elsewhere', 1]);
  });

  test('within the origin keep everything that was attached', async () => {
    const { origin, seen } = await serve(to(307, 'next?x=1'), json(200, { here: true }));
    const { body, attempts } = await clientFor(origin).post('/a/b', { json: { amount: 5 } });
    expect([body, attempts]).toEqual([{ here: true }, 2]);
    expect(seen[1]).toMatchObject({ method: 'POST', url: '/a/next?x=1', body: '{"amount":5}' });
    for (const name of ['authorization', 'x-api-key', 'idempotency-key', 'x-tenant']) {
      expect(seen[1]?.headers[name]).toBe(seen[0]?.headers[name]);
      expect(seen[1]?.headers[name]).toBeDefined();
    }
  });

  test('to another origin carry nothing that was attached', async () => {
    const other = await serve(to(302, '/again'), json(200, { there: true }));
    const { origin } = await serve(to(302, `${other.origin}/there`));
    const { body } = await clientFor(origin).get('/', {
      headers: {
        'X-Custom': 'secret',
        Cookie: 'session=secret',
        'Proxy-Authorization': 'secret',
        'Accept-Language': 'de',
      },
      idempotencyKey: 'secret-key',
    });
    expect(body).toEqual({ there: true });
    expect(other.seen.map(({ url }) => url)).toEqual(['/there', '/again']);
    for (const { headers } of other.seen) {
      expect(Object.keys(headers).sort()).toEqual([
        'accept',
        'accept-encoding',
        'connection',
        'host',
      ]);
    }
  });

  test('and back again do not get it back', async () => {
    const other = await serve((request, response) => {
      response.writeHead(302, { location: String(request.url).slice(1) }).end();
    });
    const home = await serve((request, response) => {
      const location = request.url === '/' ? `${other.origin}/${home.origin}/end` : undefined;
      response.writeHead(location ? 302 : 200, location ? { location } : {}).end();
    });
    await clientFor(home.origin).get('/');
    expect(home.seen.map(({ url, headers }) => [url, headers['authorization']])).toEqual([
      ['/', 'ApiKey sk-live-secret'],
      ['/end', undefined],
    ]);
  });

  test.each([307, 308])('%i of a write to another origin is refused', async (status) => {
    const other = await serve(json(200, {}));
    const { origin } = await serve(to(status, `${other.origin}/`));
    const error = await failure(clientFor(origin).post('/', { json: {} }));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_REDIRECT', status });
    expect(error.idempotencyKey).toBeDefined();
    expect(other.seen).toEqual([]);
  });

  test.each([
    [301, 'POST', 'GET'],
    [302, 'POST', 'GET'],
    [303, 'POST', 'GET'],
    [303, 'PUT', 'GET'],
    [303, 'HEAD', 'HEAD'],
    [301, 'PUT', 'PUT'],
    [307, 'PATCH', 'PATCH'],
    [308, 'POST', 'POST'],
  ])('%i turns %s into %s', async (status, method, becomes) => {
    const { origin, seen } = await serve(to(status, '/next'), json(200, {}));
    const options = method === 'HEAD' ? {} : { json: { a: 1 } };
    await clientFor(origin).request(method, '/', options);
    expect(seen[1]?.method).toBe(becomes);
    if (becomes !== 'GET') return;
    expect(seen[1]?.body).toBe('');
    expect(seen[1]?.headers['content-type']).toBeUndefined();
    expect(seen[1]?.headers['idempotency-key']).toBeUndefined();
  });

  test('without end are not followed for ever', async () => {
    const { origin, seen } = await serve(to(302, '/'));
    const error = await failure(clientFor(origin).get('/'));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_REDIRECT', attempts: 4 });
    expect(seen.length).toBe(4);
  });

  test.each([
    'http://[',
    'http://user:secret@127.0.0.1/',
    'file:///secret',
    'data:,secret',
    'blob:ORIGIN/secret',
  ])('to %s are refused', async (location) => {
    const { origin, seen } = await serve((request, response) =>
      to(302, location.replace('ORIGIN', `http://${request.headers.host}`))(request, response),
    );
    const error = await failure(clientFor(origin).get('/'));
    expect(error).toMatchObject({ code: 'ERR_CLIENT_REDIRECT', status: 302 });
    expect(error.message).not.toContain('secret');
    expect(seen.length).toBe(1);
  });

  test('to where egress does not let go are refused', async () => {
    const { origin } = await serve(to(302, 'http://169.254.169.254/latest/meta-data'));
    expect(await failure(clientFor(origin).get('/'))).toMatchObject({
      code: 'ERR_CLIENT_NOT_SENT',
      cause: { code: 'ERR_EGRESS_DENIED' },
    });
  });

  test('of a stream that can be sent only once are refused', async () => {
    const { origin } = await serve(to(307, '/next'));
    const body = (async function* () {
      yield 'x';
    })();
    expect(await failure(clientFor(origin).put('/', { body }))).toMatchObject({
      code: 'ERR_CLIENT_REDIRECT',
    });
  });
});
