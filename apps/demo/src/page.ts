import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain, type Guard, problem } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { cors, securityHeaders } from '@countersign/hardening/guard';
import type { Expectation } from './expectations.ts';
import type { Happening } from './happenings.ts';

/** A process of the demo: where it listens, and whether it runs. */
export interface ServiceState {
  readonly service: string;
  readonly pid: number;
  readonly url: string;
  /** `running`, or how it ended. */
  readonly state: string;
}

/** Something to be seen on the page. */
export type Sight =
  | { readonly service: ServiceState }
  | { readonly step: string }
  | { readonly expectation: Expectation }
  | { readonly happening: Happening & { readonly service: string } };

/** The one page on which the demo can be watched. */
export interface DemoPage {
  readonly url: string;
  show(sight: Sight): void;
  close(): Promise<void>;
}

/** What somebody who opens the page later still gets to see of what happened; of everything else all. */
const rememberedHappenings = 500;

const files: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/page.css': ['page.css', 'text/css; charset=utf-8'],
  '/icon.svg': ['icon.svg', 'image/svg+xml'],
};

/**
 * Serves the page on loopback, to its own origin alone.
 * @param order - has checkout take an order; resolves to what became of it.
 */
export async function servePage(order: () => Promise<string>): Promise<DemoPage> {
  const contents = new Map<string, Buffer>();
  for (const [path, [file]] of Object.entries(files)) {
    contents.set(path, await readFile(new URL(`./page/${file}`, import.meta.url)));
  }
  const sights: Sight[] = [];
  const happenings: Sight[] = [];
  const watchers = new Set<ServerResponse>();

  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const guards = chain()
    .use('headers', securityHeaders({ profile: 'html' }))
    .use('host', onlyAs(host))
    .use('cors', cors({ origins: [`http://${host}`], methods: ['GET', 'POST'], refuse: true }));

  const listener = node(guards, async (request, response) => {
    const { method, url = '' } = request;
    const file = files[url];
    if (method === 'GET' && file) {
      response.setHeader('content-type', file[1]);
      response.end(contents.get(url));
    } else if (method === 'GET' && url === '/sights') {
      response.setHeader('content-type', 'text/event-stream');
      for (const sight of [...sights, ...happenings]) response.write(eventOf(sight));
      response.flushHeaders();
      watchers.add(response);
      response.once('close', () => watchers.delete(response));
    } else if (method === 'POST' && url === '/orders') {
      response.setHeader('content-type', 'text/plain; charset=utf-8');
      response.end(await order());
    } else {
      response.writeHead(404).end();
    }
  });
  server.on('request', listener);

  return {
    url: `http://${host}/`,
    show(sight) {
      const remembered = 'happening' in sight ? happenings : sights;
      remembered.push(sight);
      if (happenings.length > rememberedHappenings) happenings.shift();
      const event = eventOf(sight);
      for (const watcher of watchers) watcher.write(event);
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** Whoever has a name of their own point here (DNS rebinding) would be of the same origin to a browser. */
function onlyAs(host: string): Guard<undefined> {
  return ({ headers }) =>
    headers.get('host') === host
      ? { pass: true, context: undefined }
      : problem({ status: 421, detail: 'this page is served under its address alone' });
}

/** A server-sent event: JSON has no line breaks. */
function eventOf(sight: Sight): string {
  return `data: ${JSON.stringify(sight)}\n\n`;
}
