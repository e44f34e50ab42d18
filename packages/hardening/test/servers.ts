import { once } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request as open,
  type Server,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Guard } from '@countersign/guard';
import { express } from '@countersign/guard/express';
import { fastify } from '@countersign/guard/fastify';
import { hono } from '@countersign/guard/hono';
import { type AdapterOptions, clientError, node } from '@countersign/guard/node';
import { serve } from '@hono/node-server';
import expressApp, { json } from 'express';
import fastifyApp from 'fastify';
import { Hono } from 'hono';

/** What is served, said once for all frameworks. */
export interface Application {
  readonly guard: Guard<unknown>;
  readonly options?: AdapterOptions;
  /** Called whenever a handler runs. */
  readonly ran?: () => void;
  /** What a handler of `/throw` throws. */
  readonly thrown?: () => unknown;
}

export interface RunningServer {
  readonly port: number;
  close(): Promise<void>;
}

export type Start = (application: Application) => Promise<RunningServer>;

/*
 * GET  /hello      200 `hello`, from a handler that says `Server`, `X-Powered-By` and `Vary: Accept`
 * POST /hello      405
 * POST /json       200, what was parsed; 400 when it is no JSON, 413 above 1 KiB
 * POST /bytes      200, how many bytes there were, read as a stream where there is one
 * GET  /throw      throws
 * anything else    404 of the framework's own
 */
const fields = { server: 'secret/1.0', 'x-powered-by': 'magic', vary: 'Accept' };

/** The bound of the frameworks' own parsers. */
const parserBytes = 1024;

function raise({ thrown }: Application): never {
  throw thrown ? thrown() : new Error('secret reason');
}

async function bodyOf(req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function startNode(application: Application): Promise<RunningServer> {
  const { guard, options, ran } = application;
  const listener = node(
    guard,
    async (req, res) => {
      ran?.();
      const target = `${req.method} ${(req.url ?? '').replace(/\?.*/, '')}`;
      if (target === 'GET /hello') res.writeHead(200, fields).end('hello');
      else if (target === 'POST /hello') res.writeHead(405, { allow: 'GET' }).end();
      else if (target === 'GET /throw') raise(application);
      else if (target === 'POST /bytes') res.end(String((await bodyOf(req)).length));
      else if (target === 'POST /json') {
        const bytes = await bodyOf(req);
        try {
          if (bytes.length > parserBytes) res.writeHead(413).end();
          else res.end(JSON.stringify(JSON.parse(bytes.toString())));
        } catch {
          res.writeHead(400).end();
        }
      } else res.writeHead(404).end();
    },
    options,
  );
  return listening(createServer(listener).listen(0, '127.0.0.1'));
}

function startExpress(application: Application): Promise<RunningServer> {
  const { guard, options, ran } = application;
  const app = expressApp();
  app.use(express(guard, options));
  app.post('/bytes', async (req, res) => {
    ran?.();
    res.send(String((await bodyOf(req)).length));
  });
  app.use(json({ limit: parserBytes }));
  app.get('/hello', (_req, res) => {
    ran?.();
    res.set(fields).send('hello');
  });
  app.post('/hello', (_req, res) => void res.set('allow', 'GET').sendStatus(405));
  app.post('/json', (req, res) => {
    ran?.();
    res.json(req.body);
  });
  app.get('/throw', () => raise(application));
  return listening(createServer(app).listen(0, '127.0.0.1'));
}

async function startFastify(application: Application): Promise<RunningServer> {
  const { guard, options, ran } = application;
  const app = fastifyApp({ bodyLimit: 1024 * 1024, clientErrorHandler: clientError() });
  await app.register(fastify(guard, options));
  app.addContentTypeParser('application/octet-stream', { parseAs: 'buffer' }, (_req, body, done) =>
    done(null, body),
  );
  app.get('/hello', (_request, reply) => {
    ran?.();
    return reply.headers(fields).send('hello');
  });
  app.post('/hello', (_request, reply) => reply.code(405).header('allow', 'GET').send());
  app.post('/json', { bodyLimit: parserBytes }, (request) => {
    ran?.();
    return request.body;
  });
  const schema = { body: { type: 'object', properties: { name: { type: 'null' } } } };
  app.post('/validated', { schema }, () => 'valid');
  app.post('/bytes', (request) => {
    ran?.();
    return String((request.body as Buffer).length);
  });
  app.get('/throw', () => raise(application));
  await app.listen({ port: 0, host: '127.0.0.1' });
  const { port } = app.server.address() as AddressInfo;
  return {
    port,
    close: () => {
      app.server.closeAllConnections();
      return app.close();
    },
  };
}

async function startHono(application: Application): Promise<RunningServer> {
  const { guard, options, ran } = application;
  const app = new Hono();
  app.use(hono(guard, options));
  app.get('/hello', (c) => {
    ran?.();
    return c.text('hello', 200, fields);
  });
  app.post('/hello', () => new Response(null, { status: 405, headers: { allow: 'GET' } }));
  app.post('/json', async (c) => {
    ran?.();
    const text = await c.req.text();
    if (text.length > parserBytes) return c.body(null, 413);
    try {
      return c.json(JSON.parse(text));
    } catch {
      return c.body(null, 400);
    }
  });
  app.post('/bytes', async (c) => {
    ran?.();
    return c.text(String((await c.req.arrayBuffer()).byteLength));
  });
  app.get('/throw', () => raise(application));
  return listening(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server);
}

async function listening(server: Server): Promise<RunningServer> {
  if (!server.listening) await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export const servers: Readonly<Record<string, Start>> = {
  node: startNode,
  express: startExpress,
  fastify: startFastify,
  hono: startHono,
};

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Every field line as it came. */
  readonly lines: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

export interface Question {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  /** Several pieces are sent in chunks, without a length. */
  readonly body?: string | readonly string[];
}

/** Asks over a connection of its own. */
export async function ask(port: number, question: Question = {}): Promise<Answer> {
  const { method = 'GET', path = '/hello', headers = {}, body } = question;
  const length =
    typeof body === 'string' ? { 'content-length': String(Buffer.byteLength(body)) } : {};
  const req = open({
    port,
    host: '127.0.0.1',
    agent: false,
    method,
    path,
    headers: { ...length, ...headers } as never,
  });
  // A refusal may come, and the connection go, before all of the body has been sent.
  req.on('error', () => {});
  for (const piece of typeof body === 'string' ? [body] : (body ?? [])) req.write(piece);
  req.end();
  const [res] = (await once(req, 'response')) as [IncomingMessage];
  const lines = Array.from({ length: res.rawHeaders.length / 2 }, (_, index) => [
    res.rawHeaders[2 * index]?.toLowerCase() ?? '',
    res.rawHeaders[2 * index + 1] ?? '',
  ]) as [string, string][];
  const text = await bodyOf(res);
  return { status: res.statusCode ?? 0, headers: res.headers, lines, body: text.toString() };
}
