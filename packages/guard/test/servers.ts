import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import expressApp, { json } from 'express';
import fastifyApp from 'fastify';
import { Hono } from 'hono';
import { express } from '../src/express.ts';
import { fastify } from '../src/fastify.ts';
import { hono } from '../src/hono.ts';
import type { Guard } from '../src/index.ts';
import { type AdapterOptions, clientError, node } from '../src/node.ts';

/** What the application behind the guards does, said once for all frameworks. */
export interface Application {
  readonly guard: Guard<unknown>;
  readonly options?: AdapterOptions;
  /** What a handler of `/wait` waits for before it answers. */
  readonly gate?: Promise<unknown>;
  /** Called when a handler of `/wait` begins. */
  readonly began?: () => void;
  /** Mounts a body parser before the guards, where the framework has such a thing. */
  readonly parserFirst?: boolean;
}

export interface RunningServer {
  readonly port: number;
  readonly server: Server;
  close(): Promise<void>;
}

export type Start = (application: Application) => Promise<RunningServer>;

/*
 * GET  /hello     200, text
 * GET  /fields    200, with headers of its own
 * POST /json      200, what the framework's parser made of the body, and the guards' context
 * POST /bytes     200, the body's bytes, read as a stream where there is one
 * GET  /throw     throws
 * GET  /stream    200, two chunks with /wait's gate between them
 * GET  /wait      200 after the gate
 * GET  /empty     204
 * GET  /large     200, 64 KiB in chunks of 1 KiB
 */
export const ownFields: Readonly<Record<string, string | string[]>> = {
  'cache-control': 'public',
  vary: 'accept',
  'set-cookie': ['a=1', 'b=2'],
  'x-powered-by': 'magic',
  server: 'secret/1.0',
  'x-own': 'yes',
};
const pieces = Array.from({ length: 64 }, (_, index) => String(index % 10).repeat(1024));
export const large: string = pieces.join('');

async function bodyOf(req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** The routes that write to node:http's response directly, in all frameworks that let them. */
async function streamed(res: ServerResponse, { gate, began }: Application): Promise<void> {
  res.setHeader('content-type', 'text/plain');
  res.write('first ');
  res.flushHeaders();
  began?.();
  await gate;
  res.end('second');
}

function startNode(application: Application): Promise<RunningServer> {
  const { guard, options, gate, began } = application;
  const listener = node(
    guard,
    async (req, res, context) => {
      const path = `${req.method} ${(req.url ?? '').replace(/\?.*/, '')}`;
      if (path === 'GET /hello' || path === 'HEAD /hello') res.end('hello');
      else if (path === 'GET /fields') res.writeHead(200, ownFields as never).end('fields');
      else if (path === 'POST /bytes') res.end(await bodyOf(req));
      else if (path === 'GET /throw') throw new Error('secret reason');
      else if (path === 'GET /stream') await streamed(res, application);
      else if (path === 'GET /empty') res.writeHead(204).end();
      else if (path === 'GET /large') {
        for (const piece of pieces) res.write(piece);
        res.end();
      } else if (path === 'GET /wait') {
        began?.();
        await gate;
        res.end('waited');
      } else if (path === 'POST /json') {
        const text = (await bodyOf(req)).toString();
        let body: unknown;
        try {
          body = JSON.parse(text);
        } catch {
          res.writeHead(400).end();
          return;
        }
        res.setHeader('content-type', 'application/json');
        res.end(JSON.stringify({ body, guard: context }));
      } else if (path === 'POST /hello') res.writeHead(405, { allow: 'GET' }).end();
      else res.writeHead(404).end();
    },
    options,
  );
  const server = createServer(listener).on('checkContinue', listener);
  return listening(server.listen(0, '127.0.0.1'));
}

function startExpress(application: Application): Promise<RunningServer> {
  const { guard, options, gate, began, parserFirst } = application;
  const app = expressApp();
  if (parserFirst) app.use(json());
  app.use(express(guard, options));
  app.post('/bytes', async (req, res) => void res.end(await bodyOf(req)));
  app.use(json());
  app.get('/hello', (_req, res) => void res.send('hello'));
  app.post('/hello', (_req, res) => void res.set('allow', 'GET').sendStatus(405));
  app.get('/fields', (_req, res) => void res.set(ownFields as never).send('fields'));
  app.post('/json', (req, res) => void res.json({ body: req.body, guard: req.guard }));
  app.get('/throw', () => {
    throw new Error('secret reason');
  });
  app.get('/stream', (_req, res) => streamed(res, application));
  app.get('/empty', (_req, res) => void res.status(204).end());
  app.get('/large', (_req, res) => {
    for (const piece of pieces) res.write(piece);
    res.end();
  });
  app.get('/wait', async (_req, res) => {
    began?.();
    await gate;
    res.send('waited');
  });
  return listening(createServer(app).listen(0, '127.0.0.1'));
}

async function startFastify(application: Application): Promise<RunningServer> {
  const { guard, options, gate, began } = application;
  const app = fastifyApp({ clientErrorHandler: clientError([['x-guard', 'static']]) });
  if (application.parserFirst) {
    app.addHook('onRequest', async ({ raw }) => void (await bodyOf(raw)));
  }
  await app.register(fastify(guard, options));
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.get('/hello', () => 'hello');
  app.post('/hello', (_request, reply) => reply.code(405).header('allow', 'GET').send());
  app.get('/fields', (_request, reply) => reply.headers(ownFields).send('fields'));
  app.post('/json', (request) => ({ body: request.body, guard: request.guard }));
  app.post('/bytes', (request) => request.body);
  app.get('/throw', () => {
    throw new Error('secret reason');
  });
  app.get('/stream', async (_request, reply) => {
    reply.hijack();
    await streamed(reply.raw, application);
  });
  app.get('/empty', (_request, reply) => reply.code(204).send());
  app.get('/large', (_request, reply) => {
    reply.hijack();
    for (const piece of pieces) reply.raw.write(piece);
    reply.raw.end();
  });
  app.get('/wait', async () => {
    began?.();
    await gate;
    return 'waited';
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;
  return {
    port,
    server: app.server,
    close: () => {
      app.server.closeAllConnections();
      return app.close();
    },
  };
}

async function startHono(application: Application): Promise<RunningServer> {
  const { guard, options, gate, began } = application;
  const app = new Hono();
  if (application.parserFirst) {
    app.use(async (c, next) => {
      await c.req.arrayBuffer();
      await next();
    });
  }
  const guarded = app.use(hono(guard, options));
  guarded.get('/hello', (c) => c.text('hello'));
  guarded.post('/hello', () => new Response(null, { status: 405, headers: { allow: 'GET' } }));
  guarded.get('/fields', (c) => {
    for (const [name, value] of Object.entries(ownFields)) {
      for (const line of [value].flat()) c.header(name, line, { append: true });
    }
    return c.text('fields');
  });
  guarded.post('/json', async (c) => {
    const body = await c.req.json();
    return c.json({ body, guard: c.get('guard' as never) as unknown });
  });
  guarded.post('/bytes', async (c) => c.body(await c.req.arrayBuffer()));
  guarded.get('/throw', () => {
    throw new Error('secret reason');
  });
  guarded.get('/stream', (c) => {
    const text = new TextEncoder();
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(text.encode('first '));
        began?.();
        await gate;
        controller.enqueue(text.encode('second'));
        controller.close();
      },
    });
    return c.body(body, 200, { 'content-type': 'text/plain' });
  });
  guarded.get('/empty', (c) => c.body(null, 204));
  guarded.get('/large', (c) =>
    c.body(ReadableStream.from(pieces.map((piece) => Buffer.from(piece))) as never),
  );
  guarded.get('/wait', async (c) => {
    began?.();
    await gate;
    return c.text('waited');
  });
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server;
  return listening(server);
}

async function listening(server: Server): Promise<RunningServer> {
  if (server.listenerCount('clientError') === 0) {
    server.on('clientError', clientError([['x-guard', 'static']]));
  }
  if (!server.listening) await once(server, 'listening');
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { port: (server.address() as AddressInfo).port, server, close };
}

export const servers: Readonly<Record<string, Start>> = {
  node: startNode,
  express: startExpress,
  fastify: startFastify,
  hono: startHono,
};
