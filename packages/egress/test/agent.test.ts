import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, type LookupFunction, Socket } from 'node:net';
import { interceptors } from 'undici';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { assertAllowed, type EgressAgentOptions, EgressError, egressAgent } from '../src/index.ts';

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const step of cleanUp.splice(0)) await step();
});

const denied = { name: 'EgressError', code: 'ERR_EGRESS_DENIED' };

async function serve(listener: RequestListener): Promise<{ port: number; server: Server }> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp.push(
    () => server.close(),
    () => server.closeAllConnections(),
  );
  return { port: (server.address() as AddressInfo).port, server };
}

function agentFor(options: EgressAgentOptions) {
  const agent = egressAgent(options);
  cleanUp.push(() => agent.destroy());
  return agent;
}

/** A resolver that gives one answer after the other, the last one for ever. */
function answers(...lists: string[][]): LookupFunction & { calls: number } {
  const lookup = (
    _hostname: string,
    _options: unknown,
    callback: (error: null, addresses: { address: string; family: number }[]) => void,
  ): void => {
    const list = lists[Math.min(lookup.calls, lists.length - 1)] ?? [];
    lookup.calls += 1;
    callback(
      null,
      list.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  };
  lookup.calls = 0;
  return lookup as unknown as LookupFunction & { calls: number };
}

const get = (origin: string, path = '/') => ({ origin, path, method: 'GET' }) as const;

describe('egressAgent', () => {
  test('reaches what an entry allows and nothing else', async () => {
    const { port } = await serve((_request, response) => response.end('here'));
    const agent = agentFor({ allow: [`http://127.0.0.1:${port}`] });
    const { body } = await agent.request(get(`http://127.0.0.1:${port}`));
    expect(await body.text()).toBe('here');
    await expect(agent.request(get(`http://127.0.0.1:${port + 1}`))).rejects.toMatchObject(denied);
    await expect(agent.request(get('https://api.example.com'))).rejects.toMatchObject(denied);
  });

  test('sends nothing to a literal that is not allowed', async () => {
    let requests = 0;
    const { port, server } = await serve((_request, response) => response.end());
    server.on('connection', () => {
      requests += 1;
    });
    const agent = agentFor({ httpsOnly: false });
    for (const host of ['127.0.0.1', '2130706433', '0177.1', '[::ffff:127.0.0.1]', '0']) {
      await expect(agent.request(get(`http://${host}:${port}`))).rejects.toMatchObject(denied);
    }
    expect(requests).toBe(0);
  });

  test('refuses a name that resolves to an address that is not allowed', async () => {
    const lookup = answers(['10.0.0.5']);
    const agent = agentFor({ lookup });
    await expect(agent.request(get('https://innocent.example'))).rejects.toMatchObject({
      ...denied,
      message:
        'refused https://innocent.example:443: no allow entry covers the address 10.0.0.5 (private)',
    });
  });

  test('refuses a name when one of many addresses is bad', async () => {
    const agent = agentFor({ lookup: answers(['93.184.216.34', '169.254.169.254']) });
    await expect(agent.request(get('https://mixed.example'))).rejects.toMatchObject(denied);
  });

  test.each([[['']], [['localhost']], [['fe80::1%eth0']], [[]]])(
    'refuses a resolver that answers %j',
    async (list) => {
      const agent = agentFor({ lookup: answers(list) });
      await expect(agent.request(get('https://odd.example'))).rejects.toMatchObject(denied);
    },
  );

  test('does not resolve a name that no entry can cover', async () => {
    const lookup = answers(['93.184.216.34']);
    const agent = agentFor({ allow: ['api.example.com'], lookup });
    await expect(agent.request(get('https://secret.attacker.example'))).rejects.toMatchObject(
      denied,
    );
    expect(lookup.calls).toBe(0);
  });

  test('a name that is allowed may not be pointed at a private address', async () => {
    const agent = agentFor({ allow: ['api.example.com'], lookup: answers(['127.0.0.1']) });
    await expect(agent.request(get('https://api.example.com'))).rejects.toMatchObject(denied);
  });

  test('connects to the addresses that were checked, and checks again for every connection', async () => {
    const { port } = await serve((_request, response) => response.end('here'));
    const lookup = answers(['127.0.0.1'], ['10.0.0.1']);
    const agent = agentFor({
      allow: ['http://rebound.example:*', 'http://127.0.0.1:*'],
      lookup,
      connections: 1,
    });
    const origin = `http://rebound.example:${port}`;
    const first = await agent.request(get(origin));
    expect(await first.body.text()).toBe('here');
    // The pooled connection is bound to the address that was checked: no look-up, no second opinion.
    const second = await agent.request({ ...get(origin), reset: true });
    expect(await second.body.text()).toBe('here');
    expect(lookup.calls).toBe(1);
    await expect(agent.request(get(origin))).rejects.toMatchObject(denied);
    expect(lookup.calls).toBe(2);
  });

  test('a resolver that changes its answer after the check does not get its way', async () => {
    const { port } = await serve((_request, response) => response.end('here'));
    let reads = 0;
    const shifty: LookupFunction = (_hostname, _options, callback) => {
      const entry = {
        family: 4,
        get address() {
          reads += 1;
          return reads === 1 ? '127.0.0.1' : '127.0.0.2';
        },
      };
      callback(null, [entry]);
    };
    const agent = agentFor({
      allow: ['http://shifty.example:*', 'http://127.0.0.1:*'],
      lookup: shifty,
    });
    const { body } = await agent.request(get(`http://shifty.example:${port}`));
    expect(await body.text()).toBe('here');
    expect(reads).toBe(1);
  });

  test('checks the peer that was really reached, and sends it nothing', async () => {
    let requests = 0;
    const { port } = await serve((_request, response) => {
      requests += 1;
      response.end();
    });
    // Whoever connects to 0.0.0.0 on Linux or macOS reaches 127.0.0.1.
    const agent = agentFor({ allow: ['http://0.0.0.0:*'] });
    await expect(agent.request(get(`http://0.0.0.0:${port}`))).rejects.toMatchObject({
      ...denied,
      message: expect.stringContaining('address 127.0.0.1') as string,
    });
    expect(requests).toBe(0);
  });

  test('does not follow redirects; with an interceptor that does, each hop is checked', async () => {
    const { port } = await serve((_request, response) => {
      response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data' }).end();
    });
    const agent = agentFor({ allow: ['http://127.0.0.1:*'] });
    const origin = `http://127.0.0.1:${port}`;
    const response = await agent.request(get(origin));
    expect(response.statusCode).toBe(302);
    await response.body.dump();
    const following = agent.compose(interceptors.redirect({ maxRedirections: 3 }));
    await expect(following.request(get(origin))).rejects.toMatchObject(denied);
  });

  test('caps the response body, whatever its headers promise', async () => {
    const { port } = await serve((request, response) => {
      if (request.url === '/exact') response.end(Buffer.alloc(1000));
      else if (request.url === '/long') response.end(Buffer.alloc(1001));
      else {
        const timer = setInterval(() => response.write(Buffer.alloc(64)), 0);
        response.on('close', () => clearInterval(timer));
      }
    });
    const agent = agentFor({ allow: ['http://127.0.0.1:*'], maxResponseBytes: 1000 });
    const fetchBytes = async (path: string) =>
      (await agent.request(get(`http://127.0.0.1:${port}`, path))).body.bytes();
    expect((await fetchBytes('/exact')).length).toBe(1000);
    const tooLarge = { name: 'EgressError', code: 'ERR_EGRESS_RESPONSE_TOO_LARGE' };
    await expect(fetchBytes('/long')).rejects.toMatchObject(tooLarge);
    await expect(fetchBytes('/endless')).rejects.toMatchObject(tooLarge);
  });

  test('takes no proxy from the environment', async () => {
    let proxied = 0;
    const { port: proxyPort } = await serve((_request, response) => {
      proxied += 1;
      response.end();
    });
    const { port } = await serve((_request, response) => response.end('direct'));
    for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'http_proxy']) {
      vi.stubEnv(name, `http://127.0.0.1:${proxyPort}`);
    }
    vi.stubEnv('NODE_USE_ENV_PROXY', '1');
    const agent = agentFor({ allow: ['http://127.0.0.1:*'] });
    const { body } = await agent.request(get(`http://127.0.0.1:${port}`));
    expect(await body.text()).toBe('direct');
    expect(proxied).toBe(0);
  });

  test('leaves no name of this machine to a proxy, where it would be the proxy', async () => {
    let asked = 0;
    const { port, server } = await serve((_request, response) => response.end());
    server.on('connection', () => {
      asked += 1;
    });
    const agent = agentFor({ proxy: `http://127.0.0.1:${port}`, httpsOnly: false });
    for (const host of ['localhost', 'localhost.', 'metadata.localhost']) {
      await expect(agent.request(get(`http://${host}:${port}`))).rejects.toMatchObject({
        code: 'ERR_EGRESS_DENIED',
      });
    }
    expect(asked).toBe(0);
  });

  test('a failing look-up is reported as it is', async () => {
    const lookup: LookupFunction = (_hostname, _options, callback) =>
      callback(Object.assign(new Error('no such host'), { code: 'ENOTFOUND' }), '', 0);
    const agent = agentFor({ lookup });
    await expect(agent.request(get('https://nowhere.example'))).rejects.toMatchObject({
      code: 'ENOTFOUND',
    });
  });

  test('a resolver that never answers is bounded by the connect timeout', async () => {
    const agent = agentFor({ lookup: () => {}, connectTimeoutMs: 50 });
    await expect(agent.request(get('https://slow.example'))).rejects.toMatchObject({
      code: 'UND_ERR_CONNECT_TIMEOUT',
    });
  });

  test('a server that is silent, or stops within its body, is given up', async () => {
    const { port } = await serve((request, response) => {
      if (request.url === '/body') response.writeHead(200, { 'content-length': 9 }).write('x');
    });
    const allow = ['http://127.0.0.1:*'];
    const origin = `http://127.0.0.1:${port}`;
    const impatient = agentFor({ allow, headersTimeoutMs: 50, bodyTimeoutMs: 50 });
    await expect(impatient.request(get(origin, '/headers'))).rejects.toMatchObject({
      code: 'UND_ERR_HEADERS_TIMEOUT',
    });
    const { body } = await impatient.request(get(origin, '/body'));
    await expect(body.text()).rejects.toMatchObject({ code: 'UND_ERR_BODY_TIMEOUT' });
  });

  test.each([
    [{ maxResponseBytes: 0 }, /maxResponseBytes/],
    [{ connectTimeoutMs: -1 }, /connectTimeoutMs/],
    [{ headersTimeoutMs: 1.5 }, /headersTimeoutMs/],
    [{ bodyTimeoutMs: Number.NaN }, /bodyTimeoutMs/],
    [{ connections: 0 }, /connections/],
    [{ minTlsVersion: 'TLSv1' }, /minTlsVersion/],
    [{ lookup: 'x' }, /lookup/],
    [{ tls: { rejectUnauthorized: false } }, /rejectUnauthorized/],
    [{ denny: ['x.example'] }, /^denny: there is no such option$/],
  ])('refuses %o at construction', (options, message) => {
    expect(() => egressAgent(options as EgressAgentOptions)).toThrow(message);
  });

  test('its options may be shown to `assertAllowed` too', () => {
    const all: Required<EgressAgentOptions> = {
      allow: ['x.example'],
      deny: ['y.example'],
      httpsOnly: true,
      minTlsVersion: 'TLSv1.3',
      tls: {},
      maxResponseBytes: 1,
      connectTimeoutMs: 1,
      headersTimeoutMs: 1,
      bodyTimeoutMs: 1,
      keepAliveTimeoutMs: 1,
      connections: 1,
      allowH2: false,
      proxy: 'https://proxy.example',
      lookup: () => {},
    };
    expect(() => egressAgent(all)).not.toThrow();
    expect(() => assertAllowed('https://x.example', all)).not.toThrow();
    expect(() => assertAllowed('https://y.example', all)).toThrow(EgressError);
  });
});

describe('what is no refusal', () => {
  test('a peer that is gone when it is looked at is a broken connection, which may be tried again', async () => {
    const { port } = await serve((_request, response) => response.end());
    // What `remoteAddress` asks; the system knows no peer of a socket that was reset.
    const socket = Socket.prototype as unknown as { _getpeername(): object };
    const gone = vi.spyOn(socket, '_getpeername').mockReturnValue({});
    cleanUp.push(() => gone.mockRestore());
    const agent = agentFor({ allow: ['http://127.0.0.1:*'] });
    const origin = `http://127.0.0.1:${port}`;
    await expect(agent.request(get(origin))).rejects.toMatchObject({ code: 'ECONNRESET' });
  });
});

describe('a time that no timer can wait', () => {
  test.each(['connectTimeoutMs', 'headersTimeoutMs', 'bodyTimeoutMs', 'keepAliveTimeoutMs'])(
    'is refused as %s',
    (name) => {
      for (const value of [2_147_483_648, Number.NaN, -1, 0, 1.5]) {
        expect(() => egressAgent({ [name]: value })).toThrow(name);
      }
      expect(() => egressAgent({ [name]: 2_147_483_647 })).not.toThrow();
    },
  );
});
