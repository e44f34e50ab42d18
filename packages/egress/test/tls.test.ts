import { createSecureServer } from 'node:http2';
import { createServer, type ServerOptions } from 'node:https';
import type { LookupFunction } from 'node:net';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type EgressAgentOptions, egressAgent } from '../src/index.ts';
import { certificate, privateKey } from './certificate.ts';

const cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const step of cleanUp.splice(0).reverse()) await step();
});

const home: LookupFunction = (_hostname, _options, callback) =>
  callback(null, [{ address: '127.0.0.1', family: 4 }]);

async function serve(options: ServerOptions = {}): Promise<number> {
  const server = createServer(
    { cert: certificate, key: privateKey, ...options },
    (_request, response) => response.end('secure'),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleanUp.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

async function get(origin: string, options: EgressAgentOptions = {}): Promise<string> {
  const agent = egressAgent({
    allow: ['public', '127.0.0.1'],
    lookup: home,
    tls: { ca: certificate },
    ...options,
  });
  cleanUp.push(() => agent.destroy());
  const { body } = await agent.request({ origin, path: '/', method: 'GET' });
  return body.text();
}

describe('TLS', () => {
  test('verifies against an own authority, by the name in the URL', async () => {
    const port = await serve();
    expect(await get(`https://api.example.com:${port}`)).toBe('secure');
  });

  test('refuses another name', async () => {
    const port = await serve();
    await expect(get(`https://other.example.com:${port}`)).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    });
  });

  test('verifies although the environment says not to', async () => {
    const port = await serve();
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    await expect(get(`https://api.example.com:${port}`, { tls: {} })).rejects.toMatchObject({
      code: 'DEPTH_ZERO_SELF_SIGNED_CERT',
    });
  });

  test('refuses TLS below 1.2', async () => {
    const port = await serve({
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    await expect(
      get(`https://api.example.com:${port}`, {
        tls: { ca: certificate, ciphers: 'DEFAULT@SECLEVEL=0' },
      }),
    ).rejects.toThrow(/protocol version/);
  });

  test('refuses TLS 1.2 where 1.3 is wanted', async () => {
    const port = await serve({ maxVersion: 'TLSv1.2' });
    const origin = `https://api.example.com:${port}`;
    expect(await get(origin)).toBe('secure');
    await expect(get(origin, { minTlsVersion: 'TLSv1.3' })).rejects.toThrow(/protocol version/);
  });

  test('HTTP/2 is spoken when it is asked for, under the same rules', async () => {
    const versions: string[] = [];
    const server = createSecureServer(
      { cert: certificate, key: privateKey, allowHTTP1: true },
      (request, response) => {
        versions.push(request.httpVersion);
        response.end('x'.repeat(2000));
      },
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    cleanUp.push(() => server.close());
    const origin = `https://api.example.com:${(server.address() as AddressInfo).port}`;
    expect((await get(origin)).length).toBe(2000);
    expect((await get(origin, { allowH2: true })).length).toBe(2000);
    expect(versions).toEqual(['1.1', '2.0']);
    await expect(get(origin, { allowH2: true, maxResponseBytes: 1000 })).rejects.toMatchObject({
      code: 'ERR_EGRESS_RESPONSE_TOO_LARGE',
    });
    await expect(get(origin, { allowH2: true, allow: ['public'] })).rejects.toMatchObject({
      code: 'ERR_EGRESS_DENIED',
    });
  });

  test('resumes sessions only with the origin they belong to', async () => {
    const port = await serve();
    const agent = egressAgent({
      allow: ['public', '127.0.0.1'],
      lookup: home,
      tls: { ca: certificate },
    });
    cleanUp.push(() => agent.destroy());
    for (const name of ['api', 'other', 'api']) {
      const request = agent.request({
        origin: `https://${name}.example.com:${port}`,
        path: '/',
        method: 'GET',
        reset: true,
      });
      if (name === 'other') await expect(request).rejects.toThrow();
      else await (await request).body.dump();
    }
  });
});

describe('a proxy that was asked for', () => {
  /** Tunnels every CONNECT to the same port, and remembers what it was asked for. */
  async function startProxy(port: number): Promise<{ url: string; asked: string[] }> {
    const asked: string[] = [];
    const proxy = createTcpServer((socket) => {
      socket.once('data', (head) => {
        asked.push(head.toString('latin1').split('\r\n', 1)[0] ?? '');
        const upstream = connect(port, '127.0.0.1', () => {
          socket.write('HTTP/1.1 200 OK\r\n\r\n');
          socket.pipe(upstream).pipe(socket);
        });
        upstream.on('error', () => socket.destroy());
        socket.on('error', () => upstream.destroy());
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    cleanUp.push(() => proxy.close());
    return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, asked };
  }

  test('carries what is allowed, TLS end to end', async () => {
    const { url, asked } = await startProxy(await serve());
    expect(await get('https://api.example.com', { proxy: url })).toBe('secure');
    expect(asked).toEqual(['CONNECT api.example.com:443 HTTP/1.1']);
  });

  test('is not even asked for what is not', async () => {
    const { url, asked } = await startProxy(await serve());
    for (const origin of ['https://10.0.0.1', 'http://api.example.com', 'https://[::1]']) {
      await expect(get(origin, { proxy: url })).rejects.toMatchObject({
        code: 'ERR_EGRESS_DENIED',
      });
    }
    expect(asked).toEqual([]);
  });

  test('must be an http or https URL', () => {
    expect(() => egressAgent({ proxy: 'socks5://127.0.0.1' })).toThrow(/proxy/);
  });
});
