import { memoryApiKeyStore } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { describe, expect, it } from 'vitest';
import { collect, DAY_MS, guardRequest, managed, START_MS } from './fixtures.ts';

async function issued(options: object = {}) {
  const { keys, clock, store } = managed();
  const created = await keys.create({ owner: 'acme', scopes: ['orders:read'], ...options });
  return { keys, clock, store, ...created };
}

function header(reply: { headers?: readonly (readonly [string, string])[] }, name: string) {
  return reply.headers?.find(([key]) => key === name)?.[1];
}

describe('apiKeyGuard', () => {
  it('lets a valid key pass and tells who calls', async () => {
    const { keys, clock, key, record } = await issued();
    const guard = apiKeyGuard(keys, { scopes: ['orders:read'], now: () => clock.ms });
    expect(await guard(guardRequest([['Authorization', `ApiKey ${key}`]]), {})).toMatchObject({
      pass: true,
      context: {
        id: record.id,
        owner: 'acme',
        scopes: ['orders:read'],
        environment: 'live',
        record,
      },
      headers: [],
    });
    expect(await guard(guardRequest([['Authorization', `apikey ${key}`]]), {})).toMatchObject({
      pass: true,
    });
  });

  it('asks for a key with 401 and a challenge, and explains no more than needed', async () => {
    const { keys, key, record } = await issued();
    const guard = apiKeyGuard(keys, { realm: 'orders' });
    const missing = await guard(guardRequest(), {});
    expect(missing).toMatchObject({ pass: false, status: 401 });
    expect(header(missing, 'WWW-Authenticate')).toBe('ApiKey realm="orders"');
    await keys.revoke(record.id, { reason: 'lost' });
    const bodies = new Set<unknown>();
    for (const text of ['junk', key, key.replace('live', 'test')]) {
      const reply = await guard(guardRequest([['Authorization', `ApiKey ${text}`]]), {});
      expect(reply).toMatchObject({ pass: false, status: 401 });
      expect(header(reply, 'WWW-Authenticate')).toBe(
        'ApiKey realm="orders", error="invalid_token"',
      );
      expect(header(reply, 'Content-Type')).toBe('application/problem+json');
      if (!reply.pass) bodies.add(reply.body);
    }
    expect(bodies.size).toBe(1);
  });

  it('answers 403 for a missing scope and for a foreign address', async () => {
    const { keys, key } = await issued({ ipAllowlist: ['192.0.2.0/24'] });
    const guard = apiKeyGuard(keys, { scopes: ['orders:write'] });
    const reply = await guard(guardRequest([['Authorization', `ApiKey ${key}`]]), {});
    expect(reply).toMatchObject({ pass: false, status: 403 });
    expect(header(reply, 'WWW-Authenticate')).toBe(
      'ApiKey realm="api", error="insufficient_scope", scope="orders:write"',
    );
    const foreign = await apiKeyGuard(keys)(
      guardRequest([['Authorization', `ApiKey ${key}`]], '/', '203.0.113.1'),
      {},
    );
    expect(foreign).toMatchObject({ pass: false, status: 403 });
  });

  it('answers 503, not 401, when the store is down', async () => {
    const { keys } = managed({
      store: { ...memoryApiKeyStore(), find: () => Promise.reject(new Error('down')) },
    });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    const reply = await apiKeyGuard(keys)(guardRequest([['Authorization', `ApiKey ${key}`]]), {});
    expect(reply).toMatchObject({ pass: false, status: 503 });
    expect(header(reply, 'Retry-After')).toBe('1');
  });

  it('takes Bearer and a header of its own only when told to', async () => {
    const { keys, key } = await issued();
    const bearer = guardRequest([['Authorization', `Bearer ${key}`]]);
    const custom = guardRequest([['X-API-Key', key]]);
    expect((await apiKeyGuard(keys)(bearer, {})).pass).toBe(false);
    expect((await apiKeyGuard(keys)(custom, {})).pass).toBe(false);
    expect((await apiKeyGuard(keys, { schemes: ['ApiKey', 'Bearer'] })(bearer, {})).pass).toBe(
      true,
    );
    expect((await apiKeyGuard(keys, { header: 'x-api-key' })(custom, {})).pass).toBe(true);
  });

  it('refuses two keys, even equal ones', async () => {
    const { keys, key } = await issued();
    const guard = apiKeyGuard(keys, { header: 'x-api-key' });
    const twice = guardRequest([
      ['Authorization', `ApiKey ${key}`],
      ['X-API-Key', key],
    ]);
    expect(await guard(twice, {})).toMatchObject({ pass: false, status: 401 });
    const doubled = guardRequest([
      ['Authorization', `ApiKey ${key}`],
      ['Authorization', `ApiKey ${key}`],
    ]);
    expect(await guard(doubled, {})).toMatchObject({ pass: false, status: 401 });
  });

  it.each(['/orders?api_key=KEY', '/orders?KEY=1', '/orders/KEY', '/KEY', '/orders?x=a%20KEY'])(
    'refuses a valid key in the URL and reports it (%s)',
    async (url) => {
      const { keys, key, record } = await issued();
      const { events, stop } = collect('exposed');
      const request = guardRequest([['Authorization', `ApiKey ${key}`]], url.replace('KEY', key));
      const reply = await apiKeyGuard(keys)(request, {});
      stop();
      expect(reply).toMatchObject({ pass: false, status: 401 });
      expect(JSON.stringify(reply)).not.toContain(key);
      expect(events).toEqual([
        { id: record.id, status: 'valid', where: url.includes('?') ? 'query' : 'path' },
      ]);
    },
  );

  it('raises no alarm for a made-up key in a URL', async () => {
    const { keys } = await issued();
    const { key: madeUp } = await issued();
    const { events, stop } = collect('exposed');
    const reply = await apiKeyGuard(keys)(guardRequest([], `/?k=${madeUp}`), {});
    stop();
    expect(reply).toMatchObject({ pass: false, status: 401 });
    expect(events).toEqual([]);
  });

  it('announces the end of a key', async () => {
    const { keys, clock, key, record } = await issued({ expiresInDays: 90 });
    const guard = apiKeyGuard(keys, { now: () => clock.ms });
    const request = guardRequest([['Authorization', `ApiKey ${key}`]]);
    clock.ms += 75 * DAY_MS;
    expect((await guard(request, {})).headers).toEqual([]);
    clock.ms += DAY_MS;
    expect((await guard(request, {})).headers).toEqual([
      ['API-Key-Sunset', new Date(START_MS + 90 * DAY_MS).toUTCString()],
    ]);
    await keys.rotate(record.id, { overlapSeconds: 3600 });
    expect((await guard(request, {})).headers).toEqual([
      ['API-Key-Deprecation', `@${clock.ms / 1000}`],
      ['API-Key-Sunset', new Date(clock.ms + 3_600_000).toUTCString()],
    ]);
  });

  it('names the resource of the request', async () => {
    const { keys, key } = await issued({ resources: ['orders/7'] });
    const guard = apiKeyGuard(keys, { resource: ({ path }) => path.slice(1) });
    const at = (path: string) =>
      guard(guardRequest([['Authorization', `ApiKey ${key}`]], path), {});
    expect((await at('/orders/7')).pass).toBe(true);
    expect(await at('/orders/8')).toMatchObject({ status: 403 });
  });

  it('is configured without surprises', async () => {
    const { keys } = await issued();
    expect(() => apiKeyGuard(keys, { header: 'x key' })).toThrow(TypeError);
    expect(() => apiKeyGuard(keys, { realm: 'a"b' })).toThrow(TypeError);
    expect(() => apiKeyGuard(keys, { schemes: [] })).toThrow(TypeError);
    expect(() => apiKeyGuard(keys, { schemes: ['Basic' as 'Bearer'] })).toThrow(TypeError);
  });
});

describe('what a request may hide', () => {
  it('finds a key behind an escape that is none', async () => {
    const { keys, key } = await issued();
    const guard = apiKeyGuard(keys);
    const { events, stop } = collect('exposed');
    const path = `/100%/%FF/${key.replace('sk-', '%73k-')}`;
    expect(await guard({ ...guardRequest(), path }, {})).toMatchObject({
      pass: false,
      status: 401,
    });
    stop();
    expect(events).toHaveLength(1);
  });

  it('refuses a second Authorization field of whatever scheme', async () => {
    const { keys, key } = await issued();
    const request = guardRequest([
      ['Authorization', 'Basic dTpw'],
      ['Authorization', `ApiKey ${key}`],
    ]);
    expect(await apiKeyGuard(keys)(request, {})).toMatchObject({ pass: false, status: 401 });
  });
});
