import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain, type Guard, type Outcome, problem } from '@countersign/guard';
import { express } from '@countersign/guard/express';
import { fastify } from '@countersign/guard/fastify';
import { hono } from '@countersign/guard/hono';
import { serve } from '@hono/node-server';
import expressApp from 'express';
import fastifyApp from 'fastify';
import { Hono } from 'hono';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import * as z from 'zod';
import {
  answer,
  cors,
  endpoint,
  endpoints,
  errorMapper,
  input,
  owner,
  refuse,
  securityHeaders,
} from '../src/guard.ts';
import { output, text } from '../src/index.ts';
import { ask, type Question, type RunningServer, servers } from './servers.ts';

/** What the database gives back: more than anybody should see. */
const rows = new Map([
  ['p1', { id: 'p1', owner: 'alice', note: 'rent', card: { pan: '4111', last4: '1111' } }],
  ['p2', { id: 'p2', owner: 'bob', note: 'food', card: { pan: '5500', last4: '0004' } }],
]);
const Payment = z.object({
  id: z.string(),
  note: z.string(),
  card: z.object({ last4: z.string() }),
});

class Declined extends Error {}

const identity: Guard<string> = ({ headers }) => {
  const name = headers.get('authorization');
  if (name === undefined) return problem({ status: 401 }, [['www-authenticate', 'Test']]);
  return { pass: true, context: name };
};
const guards = chain().use('principal', identity);
const byId = owner(
  async (_request, { params }: { readonly params: { readonly id: string }; principal: string }) => {
    const row = rows.get(params.id);
    return row && { owner: row.owner, resource: row };
  },
);
const one = { guards, owner: byId, output: output(Payment) } as const;
const api = endpoints([
  endpoint({
    ...one,
    method: 'GET',
    path: '/payments/:id',
    handler: (_input, { resource }) => resource,
  }),
  endpoint({
    ...one,
    method: 'PATCH',
    path: '/payments/:id',
    input: input(z.object({ note: text({ max: 20 }) })),
    handler: ({ note }, { resource }) => {
      if (note === 'throw') throw new Error('secret reason');
      if (note === 'decline') throw new Declined('secret reason');
      if (note === 'inject') {
        return answer({ ...resource, note }, { headers: [['location', '/a\r\nset-cookie: b=c']] });
      }
      if (note === 'keep') {
        const headers = [['cache-control', 'private, max-age=60']] as const;
        return answer({ ...resource, note }, { headers });
      }
      if (note === 'refuse') return refuse(problem({ status: 409, title: 'Closed' }));
      if (note === 'number') return { ...resource, note: 42 as never };
      return answer({ ...resource, note }, { status: 202, headers: [['x-note', note]] });
    },
  }),
  endpoint({
    method: 'DELETE',
    path: '/payments/:id',
    guards,
    owner: byId,
    output: output(z.undefined()),
    handler: () => undefined,
  }),
]);

let outcomes: Outcome[] = [];
const watching: Guard<undefined> = () => ({
  pass: true,
  context: undefined,
  settle: (outcome) => void outcomes.push(outcome),
});
const whole = chain()
  .use('headers', securityHeaders({ profile: 'api' }))
  .use('cors', cors({ origins: ['https://app.example.com'] }))
  .use(
    'errors',
    errorMapper({
      map: (error) => (error instanceof Declined ? { status: 402, code: 'declined' } : undefined),
    }),
  )
  .use('key', watching)
  .use('api', api);

let events: { readonly name: string; readonly event: Record<string, unknown> }[] = [];
const names = [
  'countersign:hardening:output-mismatch',
  'countersign:hardening:owner-refused',
  'countersign:guard:handler-error',
];
const note = (event: unknown, name: string | symbol) =>
  void events.push({ name: String(name), event: event as Record<string, unknown> });

describe.each(Object.entries(servers))('endpoints on %s', (_name, start) => {
  let server: RunningServer;
  beforeEach(async () => {
    outcomes = [];
    events = [];
    for (const name of names) subscribe(name, note);
    server = await start({ guard: whole });
  });
  afterEach(async () => {
    for (const name of names) unsubscribe(name, note);
    await server.close();
  });

  const asAlice = (method: string, path: string, body?: string) => {
    const headers = { authorization: 'alice', 'content-type': 'application/json' };
    const question: Question = { method, path, headers, ...(body !== undefined && { body }) };
    return ask(server.port, question);
  };
  const patch = (body: object) => asAlice('PATCH', '/payments/p1', JSON.stringify(body));

  test('answer the owner with what the schema declares, and every header there must be', async () => {
    const { status, headers, body } = await asAlice('GET', '/payments/p1');
    expect(status).toBe(200);
    expect(body).toBe('{"id":"p1","note":"rent","card":{"last4":"1111"}}');
    expect(headers).toMatchObject({
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
    });
    expect(outcomes).toMatchObject([{ status: 200, aborted: false }]);
    expect(outcomes[0]).not.toHaveProperty('refused');
    expect(String(Buffer.from(outcomes[0]?.body ?? ''))).toBe(body);
  });

  test('answer others as if there were no such resource', async () => {
    const foreign = await asAlice('GET', '/payments/p2');
    const absent = await asAlice('GET', '/payments/p3');
    expect(foreign.status).toBe(404);
    expect(foreign.body).toBe(absent.body);
    const withoutDate = ({ lines }: typeof foreign) => lines.filter(([name]) => name !== 'date');
    expect(withoutDate(foreign)).toEqual(withoutDate(absent));
    expect(outcomes).toMatchObject([
      { status: 404, refused: true },
      { status: 404, refused: true },
    ]);
    expect(events.map(({ event }) => event)).toEqual([
      { method: 'GET', route: '/payments/:id', reason: 'foreign', status: 404, principal: 'alice' },
      { method: 'GET', route: '/payments/:id', reason: 'absent', status: 404, principal: 'alice' },
    ]);
  });

  test('answer nobody who does not say who they are', async () => {
    const { status, headers } = await ask(server.port, { path: '/payments/p1' });
    expect(status).toBe(401);
    expect(headers).toMatchObject({
      'www-authenticate': 'Test',
      'x-content-type-options': 'nosniff',
    });
  });

  test('give the handler what the schema lets in, and send its status and headers', async () => {
    const { status, headers, body } = await patch({ note: 'hi' });
    expect(status).toBe(202);
    expect(headers['x-note']).toBe('hi');
    expect(JSON.parse(body)).toEqual({ id: 'p1', note: 'hi', card: { last4: '1111' } });
  });

  test('refuse input that is not in the schema', async () => {
    const { status, body } = await patch({ note: 'hi', owner: 'alice' });
    expect(status).toBe(400);
    expect(JSON.parse(body).errors).toMatchObject([{ pointer: '#/owner' }]);
    expect(outcomes).toMatchObject([{ refused: true }]);
  });

  test('say nothing about a result that is not in the schema, and report where it is not', async () => {
    const { status, headers, body } = await patch({ note: 'number' });
    expect(status).toBe(500);
    expect(headers['content-type']).toBe('application/problem+json');
    expect(JSON.parse(body)).toEqual({
      type: 'about:blank',
      title: 'Internal Server Error',
      status: 500,
    });
    expect(events).toMatchObject([
      {
        name: 'countersign:hardening:output-mismatch',
        event: { method: 'PATCH', route: '/payments/:id', errors: [{ pointer: '#/note' }] },
      },
      {
        name: 'countersign:guard:handler-error',
        event: { status: 500, error: { code: 'ERR_HARDENING_OUTPUT_MISMATCH' } },
      },
    ]);
  });

  test('say nothing about what a handler threw, and report it', async () => {
    const { status, body } = await patch({ note: 'throw' });
    expect(status).toBe(500);
    expect(body).not.toContain('secret reason');
    expect(events).toMatchObject([
      {
        name: 'countersign:guard:handler-error',
        event: {
          method: 'PATCH',
          path: '/payments/p1',
          status: 500,
          error: { message: 'secret reason' },
        },
      },
    ]);
    // It may have done half of its work: nobody may take this for a refusal, and run it again.
    expect(outcomes).toMatchObject([{ status: 500, aborted: false }]);
    expect(outcomes[0]).not.toHaveProperty('refused');
  });

  test('have what a handler threw explained by the error mapper', async () => {
    const { status, body } = await patch({ note: 'decline' });
    expect(status).toBe(402);
    expect(JSON.parse(body)).toMatchObject({ code: 'declined' });
    expect(body).not.toContain('secret reason');
    expect(events).toMatchObject([{ event: { status: 402 } }]);
    expect(outcomes).toMatchObject([{ status: 402 }]);
    expect(outcomes[0]).not.toHaveProperty('refused');
  });

  test('fail with every header there must be where an answer has one that cannot be sent', async () => {
    const { status, headers } = await patch({ note: 'inject' });
    expect(status).toBe(500);
    expect(headers).toMatchObject({ 'x-content-type-options': 'nosniff', vary: 'Origin' });
    expect(headers).not.toHaveProperty('set-cookie');
    expect(events).toMatchObject([{ name: 'countersign:guard:handler-error' }]);
    expect(outcomes).toMatchObject([{ status: 500, aborted: false }]);
    expect(outcomes[0]).not.toHaveProperty('refused');
  });

  test('say something else than the guards before them where their answer does', async () => {
    const { lines } = await patch({ note: 'keep' });
    expect(lines.filter(([name]) => name === 'cache-control')).toEqual([
      ['cache-control', 'private, max-age=60'],
    ]);
  });

  test('refuse what the handler refuses', async () => {
    const { status, body } = await patch({ note: 'refuse' });
    expect(status).toBe(409);
    expect(JSON.parse(body)).toMatchObject({ title: 'Closed' });
    expect(events).toEqual([]);
    expect(outcomes[0]).not.toHaveProperty('refused');
  });

  test('have no body where there is none, and on HEAD', async () => {
    expect(await asAlice('DELETE', '/payments/p1')).toMatchObject({ status: 204, body: '' });
    expect(await asAlice('HEAD', '/payments/p1')).toMatchObject({ status: 200, body: '' });
    expect(await asAlice('HEAD', '/payments/p2')).toMatchObject({ status: 404, body: '' });
  });

  test('leave the framework’s own routes to it', async () => {
    expect(await ask(server.port, { path: '/hello' })).toMatchObject({
      status: 200,
      body: 'hello',
    });
    expect(await asAlice('GET', '/payments')).toMatchObject({ status: 404 });
  });

  test('are reached in one spelling only', async () => {
    for (const path of [
      '/payments/p1/',
      '//payments/p1',
      '/Payments/p1',
      '/payments/./p1',
      '/%70ayments/p1',
    ]) {
      expect((await asAlice('GET', path)).status, path).toBe(404);
    }
    expect(outcomes.every(({ status }) => status === 404)).toBe(true);
  });

  test('answer a failing handler by the mapper of a chain that was mounted before', async () => {
    await server.close();
    const before = chain()
      .use('errors', errorMapper({ map: () => ({ status: 418 }) }))
      .use('key', watching);
    server = await start({ guard: chain().use('before', before).use('api', api) });
    expect((await patch({ note: 'throw' })).status).toBe(418);
    expect(outcomes).toMatchObject([{ status: 418 }]);
    expect(outcomes[0]).not.toHaveProperty('refused');
  });
});

describe('behind guards that were mounted before', () => {
  /** What an idempotency key is kept by, and what explains errors. */
  const before = chain()
    .use('errors', errorMapper({ map: () => ({ status: 418 }) }))
    .use('key', watching);
  const mounted: Readonly<Record<string, () => Promise<RunningServer>>> = {
    express: () => {
      const app = expressApp();
      app.use(express(before));
      app.patch('/payments/:id', express(api));
      return listening(app.listen(0, '127.0.0.1'));
    },
    fastify: async () => {
      const app = fastifyApp();
      await app.register(fastify(before));
      await app.register(fastify(api));
      await app.listen({ port: 0, host: '127.0.0.1' });
      return { ...portOf(app.server), close: () => app.close() };
    },
    hono: () => {
      const app = new Hono();
      app.use(hono(before));
      app.use(hono(api));
      return listening(serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }) as Server);
    },
  };

  test.each(Object.entries(mounted))(
    'a handler that fails is explained, and has run: %s',
    async (_name, start) => {
      outcomes = [];
      const heard: unknown[] = [];
      const hear = (event: unknown) => void heard.push(event);
      subscribe('countersign:guard:handler-error', hear);
      const server = await start();
      const patch = (body: object) =>
        ask(server.port, {
          method: 'PATCH',
          path: '/payments/p1',
          headers: { authorization: 'alice', 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });
      try {
        const { status, body } = await patch({ note: 'throw' });
        expect(status).toBe(418);
        expect(body).not.toContain('secret reason');
        expect(heard).toMatchObject([{ status: 418, error: { message: 'secret reason' } }]);
        expect((await patch({ note: 'refuse' })).status).toBe(409);
        expect((await patch({ unknown: 'field' })).status).toBe(400);
        expect(outcomes.map((outcome) => [outcome.status, outcome.refused])).toEqual([
          [418, undefined],
          [409, undefined],
          [400, true],
        ]);
      } finally {
        unsubscribe('countersign:guard:handler-error', hear);
        await server.close();
      }
    },
  );
});

function portOf(server: Server): { readonly port: number } {
  return { port: (server.address() as AddressInfo).port };
}

async function listening(server: Server): Promise<RunningServer> {
  if (!server.listening) await once(server, 'listening');
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { ...portOf(server), close };
}
