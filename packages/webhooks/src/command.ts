import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { peer } from './attempter.ts';
import type { WebhookDispatcher } from './endpoint.ts';
import { WebhookError } from './errors.ts';
import { generateId } from './event.ts';
import type { Scheme } from './scheme.ts';
import { github } from './schemes/github.ts';
import { shopify } from './schemes/shopify.ts';
import { slack } from './schemes/slack.ts';
import { standardWebhooks } from './schemes/standard-webhooks.ts';
import { stripe } from './schemes/stripe.ts';
import { timestampedHmac } from './schemes/timestamped-hmac.ts';
import { generateKeyPair, generateSecret } from './secret.ts';
import { createSender } from './sender.ts';
import { createSigner, isTimestamp } from './signer.ts';
import { createVerifier } from './verifier.ts';

/** What the command line has of the world. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly print: (line: string) => void;
  readonly complain: (line: string) => void;
  readonly signal: AbortSignal;
}

const USAGE = `usage: npx @countersign/webhooks <command>

  secret [--ed25519]                 a new secret, or a key pair
  sign [body]                        the headers for a body
  verify --header 'name: value' …    whether a body was signed so; exit code 1 if not
  send <url> [body]                  one signed attempt; --allow-private for hosts that are not public
                                     needs: npx -p @countersign/webhooks -p @countersign/retry
                                     -p @countersign/egress countersign-webhooks send …
  listen [--port 8080]               receives, prints what arrives and whether it verifies

The secret is read from WEBHOOK_SECRET (several, separated by commas), never from the arguments, which others can see.
The body is an argument, @file, or standard input.
  --scheme standard | timestamped | stripe | github | slack | shopify     default standard
  --id <id>  --timestamp <seconds>  --tolerance <seconds>`;

const SCHEMES: Readonly<Record<string, () => Scheme>> = {
  standard: standardWebhooks,
  timestamped: timestampedHmac,
  stripe,
  github,
  slack,
  shopify,
};
/** How many each command takes. */
const ARGUMENTS: Readonly<Record<string, number | undefined>> = {
  secret: 0,
  sign: 1,
  verify: 1,
  send: 2,
  listen: 0,
};
const MAX_BODY_BYTES = 1_048_576;

interface Options {
  readonly scheme: string;
  readonly header: readonly string[];
  readonly port: string;
  readonly id?: string;
  readonly timestamp?: string;
  readonly tolerance: string;
  readonly ed25519: boolean;
  readonly 'allow-private': boolean;
}

/** Runs the command line; returns the exit code: 0, 1 for "no", 2 for wrong use. */
export async function run(args: readonly string[], world: Surroundings): Promise<number> {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        scheme: { type: 'string', default: 'standard' },
        header: { type: 'string', multiple: true, default: [] },
        port: { type: 'string', default: '8080' },
        id: { type: 'string' },
        timestamp: { type: 'string' },
        tolerance: { type: 'string', default: '300' },
        ed25519: { type: 'boolean', default: false },
        'allow-private': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    const [command = 'help', ...rest] = positionals;
    const most = values.help ? Infinity : (ARGUMENTS[command] ?? Infinity);
    // A body with spaces that was not quoted: a part of it must not be taken for all of it.
    if (rest.length > most)
      throw new TypeError(`${command} does not know what to do with ${rest[most]}`);
    return await perform(values.help ? 'help' : command, rest, values as Options, world);
  } catch (error) {
    const { code, message } = error as { readonly code?: string; readonly message: string };
    world.complain(code && !message.startsWith(code) ? `${code}: ${message}` : message);
    return error instanceof WebhookError ? 1 : 2;
  }
}

async function perform(
  command: string,
  rest: readonly string[],
  options: Options,
  world: Surroundings,
): Promise<number> {
  switch (command) {
    case 'secret':
      for (const line of newSecret(options)) world.print(line);
      return 0;
    case 'sign':
      return await sign(rest[0], options, world);
    case 'verify':
      return await verify(rest[0], options, world);
    case 'send':
      return await send(rest[0], rest[1], options, world);
    case 'listen':
      return await listen(options, world);
    case 'help':
      world.print(USAGE);
      return 0;
    default:
      world.complain(USAGE);
      return 2;
  }
}

function newSecret({ ed25519 }: Options): readonly string[] {
  if (!ed25519) return [generateSecret()];
  const { privateKey, publicKey } = generateKeyPair();
  return [privateKey, publicKey];
}

async function sign(
  body: string | undefined,
  options: Options,
  world: Surroundings,
): Promise<number> {
  const signer = createSigner({ secrets: secretsOf(world), scheme: schemeOf(options) });
  const { id = generateId(), timestamp } = options;
  const signed = signer.sign({
    id,
    body: await bodyOf(body, world),
    ...(timestamp !== undefined && { timestampMs: secondsOf(timestamp) * 1000 }),
  });
  for (const [name, value] of Object.entries(signed)) world.print(`${name}: ${value}`);
  return 0;
}

async function verify(
  body: string | undefined,
  options: Options,
  world: Surroundings,
): Promise<number> {
  const verified = verifierOf(options, world).verify(
    await bodyOf(body, world),
    headersOf(options.header),
  );
  world.print(`verified with secret ${verified.keyIndex + 1}`);
  return 0;
}

async function send(
  url: string | undefined,
  body: string | undefined,
  options: Options,
  world: Surroundings,
): Promise<number> {
  if (url === undefined) throw new TypeError('send needs a URL');
  const signer = createSigner({ secrets: secretsOf(world), scheme: schemeOf(options) });
  const { id = generateId(), timestamp } = options;
  const atMs = timestamp === undefined ? undefined : secondsOf(timestamp) * 1000;
  const event = { id, body: await bodyOf(body, world) };
  const egress = options['allow-private'] ? await anywhere() : undefined;
  const sender = createSender({
    signer,
    ...(egress && { egress }),
    ...(atMs !== undefined && { now: () => atMs }),
  });
  try {
    const outcome = await sender.attempt({ endpoint: url, event, signal: world.signal });
    const { verdict, status, error, durationMs, excerpt = '' } = outcome;
    world.print(`${verdict} ${status ?? error} in ${durationMs} ms ${excerpt}`.trimEnd());
    return verdict === 'delivered' ? 0 : 1;
  } finally {
    // An agent of its own that could not be loaded rejects here once more: the attempt has said so.
    await sender.close().catch(() => undefined);
    await egress?.close();
  }
}

async function listen(options: Options, world: Surroundings): Promise<number> {
  const verifier = verifierOf(options, world);
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body: Buffer | undefined;
    try {
      body = await read(request);
    } catch {
      world.print(`${request.method} ${printable(request.url ?? '')} broke off`);
      return;
    }
    const verdict = body && judged(() => verifier.verify(body, request.headers));
    const size = body ? `${body.byteLength} bytes` : 'too large';
    world.print(
      `${request.method} ${printable(request.url ?? '')} ${size}: ${verdict ?? 'refused'}`,
    );
    for (const [name, value] of Object.entries(request.headers)) {
      world.print(`  ${name}: ${printable(String(value))}`);
    }
    if (body) world.print(`  ${printable(body.toString('utf8'))}`);
    response.writeHead(verdict === 'verified' ? 204 : body ? 403 : 413).end();
  };
  const server = createServer((request, response) => void answer(request, response));
  // Only this machine: what is printed here is nobody else's business.
  server.listen(Number(options.port), '127.0.0.1');
  await new Promise((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  world.print(`listening on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  await new Promise<void>((resolve) => {
    if (world.signal.aborted) resolve();
    world.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  return 0;
}

function judged(work: () => unknown): string {
  try {
    work();
    return 'verified';
  } catch (error) {
    return (error as WebhookError).code;
  }
}

async function read(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.byteLength;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function bodyOf(
  argument: string | undefined,
  { stdin }: Surroundings,
): Promise<Uint8Array | string> {
  if (argument?.startsWith('@')) return await readFile(argument.slice(1));
  if (argument !== undefined) return argument;
  const chunks: Uint8Array[] = [];
  for await (const chunk of stdin) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function secondsOf(timestamp: string): number {
  if (isTimestamp(timestamp)) return Number(timestamp);
  throw new TypeError('--timestamp must be whole seconds since 1970');
}

function secretsOf({ env }: Surroundings): readonly string[] {
  const text = env['WEBHOOK_SECRET'];
  if (!text) throw new TypeError('WEBHOOK_SECRET is not set');
  return text.split(',');
}

function schemeOf({ scheme }: Options): Scheme {
  const make = Object.hasOwn(SCHEMES, scheme) ? SCHEMES[scheme] : undefined;
  if (!make) throw new TypeError(`--scheme must be one of ${Object.keys(SCHEMES).join(', ')}`);
  return make();
}

function verifierOf(options: Options, world: Surroundings): ReturnType<typeof createVerifier> {
  return createVerifier({
    secrets: secretsOf(world),
    scheme: schemeOf(options),
    toleranceSeconds: Number(options.tolerance),
  });
}

/** A header that is given twice stays two, for the verifier to refuse. */
function headersOf(lines: readonly string[]): Readonly<Record<string, readonly string[]>> {
  const headers = new Map<string, readonly string[]>();
  for (const [name, value] of lines.map(parsedHeader)) {
    headers.set(name, [...(headers.get(name) ?? []), value]);
  }
  return Object.fromEntries(headers);
}

function parsedHeader(text: string): readonly [name: string, value: string] {
  const colon = text.indexOf(':');
  if (colon < 1) throw new TypeError("--header must be 'name: value'");
  return [text.slice(0, colon).trim(), text.slice(colon + 1).trim()];
}

/** A terminal obeys control characters; what strangers send is not to command it. */
function printable(text: string): string {
  return text.replace(/\p{Cc}+/gu, ' ');
}

async function anywhere(): Promise<WebhookDispatcher & { close(): Promise<void> }> {
  const { egressAgent } = await peer('@countersign/egress', () => import('@countersign/egress'));
  const everything = ['0.0.0.0/0', '::/0'];
  return egressAgent({ httpsOnly: false, allow: everything });
}
