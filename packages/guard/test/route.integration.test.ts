import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import expressApp from 'express';
import fc from 'fast-check';
import fastifyApp from 'fastify';
import { Hono } from 'hono';
import { afterEach, describe, expect, test } from 'vitest';
import { express } from '../src/express.ts';
import { fastify } from '../src/fastify.ts';
import { hono } from '../src/hono.ts';
import { type Guard, route } from '../src/index.ts';
import { RawConnection } from './raw-connection.ts';

type Mount = (guard: Guard<unknown>, reached: () => void) => Promise<Server>;

/** Routers set to accept as much as they can be made to. */
const routers: Readonly<Record<string, Mount>> = {
  async express(guard, reached) {
    const app = expressApp();
    app.use(express(guard));
    app.get('/payments/:id', (_req, res) => {
      reached();
      res.end();
    });
    const server = createServer(app).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    return server;
  },
  async fastify(guard, reached) {
    const routerOptions = {
      caseSensitive: false,
      ignoreTrailingSlash: true,
      ignoreDuplicateSlashes: true,
      useSemicolonDelimiter: true,
    };
    const app = fastifyApp({ routerOptions });
    await app.register(fastify(guard));
    app.get('/payments/:id', async () => reached());
    await app.listen({ port: 0, host: '127.0.0.1' });
    return app.server;
  },
  async hono(guard, reached) {
    const app = new Hono({ strict: false });
    app.use(hono(guard));
    app.get('/payments/:id', (c) => {
      reached();
      return c.body(null);
    });
    return new Promise((resolve) => {
      const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () =>
        resolve(server as Server),
      );
    });
  },
};

const running: Server[] = [];
afterEach(() => {
  for (const server of running.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

describe.each(Object.entries(routers))('the router of %s', (_name, mount) => {
  test('reaches no handler by a spelling that its policy does not match', async () => {
    let applied = false;
    let reached = false;
    let reachedOften = 0;
    // The route that the framework knows is hidden: the policy has the path alone.
    const policy = route('GET', '/payments/:id', () => {
      applied = true;
      return { pass: true, context: undefined };
    });
    const guard: Guard<unknown> = ({ method, path }) => policy({ method, path } as never, {});
    const server = await mount(guard, () => {
      reached = true;
    });
    running.push(server);
    const { port } = server.address() as AddressInfo;
    const connection = await RawConnection.open(port);

    const piece = fc.constantFrom(
      '/',
      '//',
      '/./',
      '/../',
      '/%2e/',
      '/%2E%2e/',
      '\\',
      '%2f',
      '%5C',
      ';',
      ';a=b',
      '#',
      '?',
      '%23',
      '%3f',
      '%',
      '%00',
      '%20',
      '%09',
      'x',
      '42',
      '%2534',
      '.',
      '..',
      ':',
      '*',
      '%E0%A4%A',
    );
    const word = fc.constantFrom(
      'payments',
      'Payments',
      'PAYMENTS',
      '%70ayments',
      'p%61yments',
      '%2570ayments',
      'payment%73',
    );
    const target = fc
      .tuple(
        fc.constantFrom(
          '/',
          '//',
          '/',
          '/./',
          '/x/../',
          '/;/',
          'http://a.test/',
          'http://a.test//',
          'HTTP://a.test/',
        ),
        word,
        fc.array(piece, { maxLength: 2 }),
        fc.constantFrom('/', '/', '//', '%2f', '\\', '/./'),
        fc.constantFrom(
          '42',
          'a%2Fb',
          'a;b',
          '%20',
          '..%2f',
          'ü'.replace('ü', '%C3%BC'),
          '%E0%A4%A',
        ),
        fc.array(piece, { maxLength: 3 }),
      )
      .map((parts) => parts.flat().join(''));

    await fc.assert(
      fc.asyncProperty(target, async (text) => {
        applied = false;
        reached = false;
        await connection.send(`GET ${text} HTTP/1.1\r\nHost: a.test\r\n\r\n`).response();
        if (reached) reachedOften += 1;
        return applied || !reached;
      }),
      { numRuns: 3000 },
    );
    connection.close();
    expect(reachedOften).toBeGreaterThan(10);
  });
});
