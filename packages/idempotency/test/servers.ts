import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain, type HeaderEntry } from '@countersign/guard';
import { express } from '@countersign/guard/express';
import { fastify } from '@countersign/guard/fastify';
import { hono } from '@countersign/guard/hono';
import { type AdapterOptions, type Handler, node } from '@countersign/guard/node';
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
  /** Its bytes leave, if they may, before there are all of them. */
  readonly streams?: boolean;
}

/** The application behind the guard, said once for all frameworks: it answers `/payments`. */
export type Application = (execution: Execution, body: Buffer) => Answer | Promise<Answer>;

export interface RunningServer {
  readonly origin: string;
  readonly listener: Server;
  close(): Promise<void>;
}

export type Start = (
  application: Application,
  options: Omit<IdempotencyGuardOptions<object>, 'principal'>,
  adapterOptions?: AdapterOptions,
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

function stream(res: ServerResponse, { status, headers = [], body = Buffer.of() }: Answer): void {
  res.writeHead(status, headers.flat());
  res.flushHeaders();
  res.write(body.subarray(0, 1));
  setImmediate(() => res.end(body.subarray(1)));
}

const startNode: Start = async (application, options, adapterOptions) => {
  const handler: Handler<Found> = async (req, res, { idempotency }) => {
    const answer = await application(idempotency, await bodyOf(req));
    if (answer.streams) stream(res, answer);
    else res.writeHead(answer.status, answer.headers?.flat()).end(answer.body);
  };
  const listener = node(guardsOf(options), handler, adapterOptions);
  return await listening(createServer(listener));
};

const startExpress: Start = async (application, options, adapterOptions) => {
  const app = expressApp();
  app.use(express(guardsOf(options), adapterOptions));
  app.all('/payments', async (req, res) => {
    const { idempotency } = req.guard as unknown as Found;
    const answer = await application(idempotency, await bodyOf(req));
    const { status, headers = [], body } = answer;
    if (answer.streams) {
      stream(res, answer);
      return;
    }
    for (const [name, value] of headers) res.append(name, value);
    res.status(status).send(body);
  });
  return await listening(createServer(app));
};

const startFastify: Start = async (application, options, adapterOptions) => {
  const app = fastifyApp();
  await app.register(fastify(guardsOf(options), adapterOptions));
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.route({
    method: ['POST', 'HEAD'],
    url: '/payments',
    handler: async (request, reply) => {
      const { idempotency } = request.guard as unknown as Found;
      const sent = Buffer.from((request.body as Buffer | undefined) ?? '');
      const answer = await application(idempotency, sent);
      const { status, headers = [], body } = answer;
      if (answer.streams) {
        reply.hijack();
        stream(reply.raw, answer);
        return;
      }
      for (const [name, value] of headers) reply.header(name, value);
      await reply.code(status).send(body);
    },
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  return running(app.server);
};

const startHono: Start = async (application, options, adapterOptions) => {
  const app = new Hono<{ Variables: { guard: Found } }>();
  app.use(hono(guardsOf(options), adapterOptions));
  app.on(['POST', 'GET'], '/payments', async (c) => {
    const sent = Buffer.from(await c.req.arrayBuffer());
    const answer = await application(c.get('guard').idempotency, sent);
    const { status, headers = [], body } = answer;
    const given = answer.streams ? pieces(body) : body;
    return new Response(status === 204 ? null : (given ?? null), {
      status,
      headers: headers.map(([name, value]): [string, string] => [name, value]),
    });
  });
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server;
  if (!server.listening) await once(server, 'listening');
  return running(server);
};

function pieces(body: Buffer = Buffer.of()): ReadableStream {
  const turns = async function* (): AsyncGenerator<Buffer> {
    await new Promise((resolve) => setImmediate(resolve));
    yield body.subarray(0, 1);
    await new Promise((resolve) => setImmediate(resolve));
    yield body.subarray(1);
  };
  return ReadableStream.from(turns());
}

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
    listener: server,
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
