import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain, type HeaderEntry } from '@countersign/guard';
import { express } from '@countersign/guard/express';
import { fastify } from '@countersign/guard/fastify';
import { hono } from '@countersign/guard/hono';
import { node } from '@countersign/guard/node';
import { serve } from '@hono/node-server';
import expressApp from 'express';
import fastifyApp from 'fastify';
import { Hono } from 'hono';
import { type IdempotencyGuardOptions, idempotencyGuard } from '../src/guard.ts';
import type { Execution } from '../src/idempotency.ts';

/** What a handler answers. */
export interface Answer {
  readonly status: number;
  readonly headers?: readonly HeaderEntry[];
  readonly body?: Buffer;
}

/** The application behind the guard, said once for all frameworks: it answers `/payments`. */
export type Application = (execution: Execution, body: Buffer) => Answer | Promise<Answer>;

export interface RunningServer {
  readonly origin: string;
  close(): Promise<void>;
}

export type Start = (
  application: Application,
  options: Omit<IdempotencyGuardOptions<object>, 'principal'>,
) => Promise<RunningServer>;

interface Found {
  readonly idempotency: Execution;
}

const guardsOf = (options: Omit<IdempotencyGuardOptions<object>, 'principal'>) =>
  chain().use(
    'idempotency',
    idempotencyGuard({
      principal: ({ headers }) => headers.get('x-caller') ?? 'nobody in particular',
      ...options,
    }),
  );

const startNode: Start = async (application, options) => {
  const listener = node(guardsOf(options), async (req, res, { idempotency }) => {
    const { status, headers = [], body } = await application(idempotency, await bodyOf(req));
    res.writeHead(status, headers.flat()).end(body);
  });
  return await listening(createServer(listener));
};

const startExpress: Start = async (application, options) => {
  const app = expressApp();
  app.use(express(guardsOf(options)));
  app.all('/payments', async (req, res) => {
    const { idempotency } = req.guard as unknown as Found;
    const { status, headers = [], body } = await application(idempotency, await bodyOf(req));
    for (const [name, value] of headers) res.append(name, value);
    res.status(status).send(body);
  });
  return await listening(createServer(app));
};

const startFastify: Start = async (application, options) => {
  const app = fastifyApp();
  await app.register(fastify(guardsOf(options)));
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.route({
    method: ['POST', 'HEAD'],
    url: '/payments',
    handler: async (request, reply) => {
      const { idempotency } = request.guard as unknown as Found;
      const {
        status,
        headers = [],
        body,
      } = await application(idempotency, Buffer.from((request.body as Buffer | undefined) ?? ''));
      for (const [name, value] of headers) reply.header(name, value);
      return await reply.code(status).send(body);
    },
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  return running(app.server);
};

const startHono: Start = async (application, options) => {
  const app = new Hono<{ Variables: { guard: Found } }>();
  app.use(hono(guardsOf(options)));
  app.on(['POST', 'GET'], '/payments', async (c) => {
    const sent = Buffer.from(await c.req.arrayBuffer());
    const { status, headers = [], body } = await application(c.get('guard').idempotency, sent);
    return new Response(status === 204 ? null : (body ?? null), {
      status,
      headers: headers.map(([name, value]): [string, string] => [name, value]),
    });
  });
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server;
  if (!server.listening) await once(server, 'listening');
  return running(server);
};

export const adapters: readonly (readonly [name: string, start: Start])[] = [
  ['node', startNode],
  ['Express', startExpress],
  ['Fastify', startFastify],
  ['Hono', startHono],
];

async function listening(server: Server): Promise<RunningServer> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return running(server);
}

function running(server: Server): RunningServer {
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

async function bodyOf(req: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of req) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
