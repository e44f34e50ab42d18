#!/usr/bin/env node
import { existsSync, realpathSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { ApiKeys } from './api-keys.ts';
import type { CreateKey } from './issue.ts';
import { type KeyFormatOptions, parseKey } from './key-format.ts';
import type { KeyRecord } from './record.ts';
import { secretScanningRules } from './scanning.ts';
import type { Page } from './store.ts';

/** The world that the command line talks to. */
export interface CliWorld {
  readonly cwd: string;
  readonly stdin: AsyncIterable<string | Uint8Array>;
  readonly out: (line: string) => void;
  readonly err: (line: string) => void;
  /** The name of the user; throws where the system has none, as in a container that runs under any number. */
  readonly user: () => string;
}

const HELP = `Usage: countersign-api-keys <command> [options]

  create  --owner <text> [--scope <scope>]… [--resource <pattern>]… [--ip <range>]…
          [--days <number>|never] [--policy <name>] [--max-uses <number>] [--meta <name=value>]…
  list    --owner <text> [--limit <number>] [--cursor <cursor>]
  due     [--days <number>] [--limit <number>] [--cursor <cursor>]
  rotate  <id> --overlap <seconds> [--days <number>|never]
  revoke  <id> --reason <text>
  inspect <id>, or - to read a key from standard input
  rules   gitleaks|trufflehog|github [--prefix <text>] [--environment <text>] [--brand <text>] [--separator -|_]

  --config <file>  a module that exports \`keys\` (from createApiKeys) and, where a connection
                   must be closed, \`close\`. Default: api-keys.config.{ts,mts,js,mjs}
  --actor <text>   who does it, for the audit trail. Default: cli:<user>
  --json           answer in JSON

A new key is the only thing that create and rotate write to standard output.`;

const OPTIONS = {
  owner: { type: 'string' },
  scope: { type: 'string', multiple: true },
  resource: { type: 'string', multiple: true },
  ip: { type: 'string', multiple: true },
  meta: { type: 'string', multiple: true },
  days: { type: 'string' },
  policy: { type: 'string' },
  'max-uses': { type: 'string' },
  overlap: { type: 'string' },
  reason: { type: 'string' },
  limit: { type: 'string' },
  cursor: { type: 'string' },
  prefix: { type: 'string' },
  environment: { type: 'string' },
  brand: { type: 'string' },
  separator: { type: 'string' },
  config: { type: 'string' },
  actor: { type: 'string' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

type Values = ReturnType<typeof parse>['values'];

interface Command {
  readonly keys: ApiKeys;
  readonly values: Values;
  readonly subject: string | undefined;
  readonly actor: string;
  readonly world: CliWorld;
}

class UsageError extends Error {}

const COMMANDS: Readonly<Record<string, (command: Command) => Promise<void>>> = {
  async create({ keys, values, actor, world }) {
    show(world, values, await keys.create({ ...grantOf(values), actor }));
  },
  async list({ keys, values, world }) {
    const owner = required(values.owner, '--owner');
    showPage(world, values, await keys.list({ owner, ...pageOf(values) }));
  },
  async due({ keys, values, world }) {
    const withinDays =
      values.days === undefined ? {} : { withinDays: numberOf(values.days, '--days') };
    showPage(world, values, await keys.dueForRotation({ ...withinDays, ...pageOf(values) }));
  },
  async rotate({ keys, values, subject, actor, world }) {
    const id = idOf(subject);
    const overlapSeconds = numberOf(required(values.overlap, '--overlap'), '--overlap');
    show(world, values, await keys.rotate(id, { overlapSeconds, actor, ...daysOf(values) }));
  },
  async revoke({ keys, values, subject, actor, world }) {
    const reason = required(values.reason, '--reason');
    world.out(describe(values, await keys.revoke(idOf(subject), { reason, actor })));
  },
  async inspect({ keys, values, subject, world }) {
    const record =
      subject === '-' ? await keys.identify(await keyFrom(world)) : await keys.get(idOf(subject));
    if (!record) throw new Error('there is no such key');
    const trail = await keys.trail(record.id);
    world.out(values.json ? JSON.stringify({ record, trail }) : describe(values, record));
    if (!values.json) for (const entry of trail) world.out(`  ${JSON.stringify(entry)}`);
  },
};

/**
 * Runs one command. Returns the exit code: 0, 1 for a refusal, 2 for a wrong command line.
 * @param argv - without the program's own name.
 */
export async function run(argv: readonly string[], world: CliWorld): Promise<number> {
  try {
    const { values, positionals } = parse(argv);
    const [name, subject, ...more] = positionals;
    if (values.help || name === undefined || more.length > 0) {
      (values.help ? world.out : world.err)(HELP);
      return values.help ? 0 : 2;
    }
    if (name === 'rules') {
      writeRules(world, subject, values);
      return 0;
    }
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (!command) throw new UsageError(`there is no command "${name}"`);
    await withKeys(world.cwd, values.config, (keys) =>
      command({
        keys,
        values,
        subject,
        world,
        actor: values.actor ?? `cli:${userOf(world)}`,
      }),
    );
    return 0;
  } catch (error) {
    world.err(error instanceof Error ? error.message : String(error));
    return isUsageError(error) ? 2 : 1;
  }
}

function userOf({ user }: CliWorld): string {
  try {
    return user();
  } catch {
    return `uid ${process.getuid?.()}`;
  }
}

function parse(argv: readonly string[]) {
  return parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true });
}

function isUsageError(error: unknown): boolean {
  const { code = '' } = error as { code?: string };
  return error instanceof UsageError || String(code).startsWith('ERR_PARSE_ARGS');
}

async function withKeys(
  cwd: string,
  file: string | undefined,
  use: (keys: ApiKeys) => Promise<void>,
): Promise<void> {
  const path = configPath(cwd, file);
  const module = (await import(pathToFileURL(path).href)) as {
    keys?: ApiKeys;
    close?: () => unknown;
  };
  if (typeof module.keys?.verify !== 'function') {
    throw new UsageError(`${path} must export \`keys\`, made by createApiKeys`);
  }
  try {
    await use(module.keys);
  } finally {
    await module.keys.close();
    await module.close?.();
  }
}

function configPath(cwd: string, file: string | undefined): string {
  if (file !== undefined) return resolve(cwd, file);
  const names = ['ts', 'mts', 'js', 'mjs'].map((extension) => `api-keys.config.${extension}`);
  const found = names.map((name) => join(cwd, name)).find((path) => existsSync(path));
  if (found === undefined)
    throw new UsageError(`no configuration: --config, or one of ${names.join(', ')}`);
  return found;
}

function grantOf(values: Values): CreateKey {
  return {
    owner: required(values.owner, '--owner'),
    scopes: values.scope ?? [],
    ...(values.resource && { resources: values.resource }),
    ...(values.ip && { ipAllowlist: values.ip }),
    ...(values.policy !== undefined && { rateLimit: { policy: values.policy } }),
    ...(values['max-uses'] !== undefined && {
      maxUses: numberOf(values['max-uses'], '--max-uses'),
    }),
    ...(values.meta && { metadata: Object.fromEntries(values.meta.map(pairOf)) }),
    ...daysOf(values),
  };
}

function daysOf({ days }: Values): { expiresInDays?: number | 'never' } {
  if (days === undefined) return {};
  return { expiresInDays: days === 'never' ? 'never' : numberOf(days, '--days') };
}

function pageOf({ limit, cursor }: Values): { limit?: number; cursor?: string } {
  return {
    ...(limit !== undefined && { limit: numberOf(limit, '--limit') }),
    ...(cursor !== undefined && { cursor }),
  };
}

function pairOf(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw new UsageError('--meta must be name=value');
  return [text.slice(0, at), text.slice(at + 1)];
}

function numberOf(text: string, option: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value))
    throw new UsageError(`${option} must be a number`);
  return value;
}

function required(value: string | undefined, option: string): string {
  if (value === undefined) throw new UsageError(`${option} is missing`);
  return value;
}

// A command line is kept in the shell's history and shown to every user of the machine.
function idOf(subject: string | undefined): string {
  const text = required(subject, 'the id of the key');
  if (parseKey(text))
    throw new UsageError(
      'this is a key, not an id: it is in your shell history now, so revoke it; `inspect -` reads a key from standard input',
    );
  return text;
}

async function keyFrom({ stdin }: CliWorld): Promise<string> {
  let text = '';
  for await (const chunk of stdin) {
    text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8');
    if (text.length > 4096) throw new UsageError('standard input is no key');
  }
  return text.trim();
}

function writeRules(world: CliWorld, subject: string | undefined, values: Values): void {
  const { prefix, environment, brand, separator } = values;
  const options = { prefix, environment, brand, separator } as KeyFormatOptions;
  const rules = secretScanningRules(options);
  if (subject !== 'gitleaks' && subject !== 'trufflehog' && subject !== 'github') {
    throw new UsageError('rules are for gitleaks, trufflehog or github');
  }
  world.out(rules[subject].trimEnd());
}

function show(
  world: CliWorld,
  values: Values,
  { key, record }: { key: string; record: KeyRecord },
): void {
  if (values.json) {
    world.out(JSON.stringify({ key, record }));
    return;
  }
  world.out(key);
  world.err(`${describe(values, record)}\nThe key above is shown this one time.`);
}

function showPage(world: CliWorld, values: Values, { records, cursor }: Page): void {
  if (values.json) {
    world.out(JSON.stringify({ records, cursor }));
    return;
  }
  for (const record of records) world.out(describe(values, record));
  if (cursor !== undefined) world.err(`more: --cursor ${cursor}`);
}

function describe(values: Values, record: KeyRecord): string {
  if (values.json) return JSON.stringify(record);
  const { id, display, owner, scopes, expiresAtMs, lastUsedAtMs } = record;
  const day = (ms: number | undefined): string =>
    ms === undefined ? 'never' : new Date(ms).toISOString();
  return [
    id,
    `${display}…`,
    stateOf(record),
    owner,
    scopes.join(',') || '-',
    `expires ${day(expiresAtMs)}`,
    `used ${day(lastUsedAtMs)}`,
  ].join('  ');
}

function stateOf({ revokedAtMs, revokedReason, successorId, expiresAtMs }: KeyRecord): string {
  if (revokedAtMs !== undefined) return `revoked (${revokedReason})`;
  if (expiresAtMs !== undefined && expiresAtMs <= Date.now()) return 'expired';
  return successorId === undefined ? 'active' : `rotated to ${successorId}`;
}

/** Whether this file is the program, also when started through the link that package managers make. */
function isProgram(): boolean {
  const [, started] = process.argv;
  return (
    started !== undefined &&
    existsSync(started) &&
    realpathSync(started) === fileURLToPath(import.meta.url)
  );
}

if (isProgram()) {
  process.exitCode = await run(process.argv.slice(2), {
    cwd: process.cwd(),
    stdin: process.stdin,
    out: (line) => process.stdout.write(`${line}\n`),
    err: (line) => process.stderr.write(`${line}\n`),
    user: () => userInfo().username,
  });
}
