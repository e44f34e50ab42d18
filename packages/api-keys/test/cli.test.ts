import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../src/cli.ts';

const source = new URL('../src/index.ts', import.meta.url).href;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'api-keys-'));
  await writeFile(
    join(dir, 'api-keys.config.mjs'),
    `import { createApiKeys, memoryApiKeyStore } from ${JSON.stringify(source)};
     export const keys = createApiKeys({ store: memoryApiKeyStore(), peppers: [{ id: 'p1', secret: 'x'.repeat(32) }], audit: true });
     export let closed = 0;
     export const close = () => { closed += 1; };`,
  );
});
afterAll(() => rm(dir, { recursive: true }));

async function cli(args: string, input = '', user = () => 'ada') {
  const out: string[] = [];
  const err: string[] = [];
  const argv = args.match(/"[^"]*"|\S+/g)?.map((part) => part.replaceAll('"', '')) ?? [];
  const code = await run(argv, {
    cwd: dir,
    stdin: (async function* () {
      yield input;
    })(),
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    user,
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
}

describe('command line', () => {
  it('takes nothing for a command that every object has', async () => {
    expect(await cli('constructor')).toMatchObject({ code: 2 });
  });

  it('names who does it, also where the user has no name', async () => {
    const actors = async (user: () => string) => {
      const { out } = await cli('create --owner nameless', '', user);
      const { out: inspected } = await cli(`inspect ${out.slice(8, 24)} --json`, '', user);
      return JSON.parse(inspected).trail.map(({ actor }: { actor?: string }) => actor);
    };
    expect(await actors(() => 'ada')).toEqual(['cli:ada']);
    const nameless = () => {
      throw new Error('uv_os_get_passwd returned ENOENT');
    };
    expect(await actors(nameless)).toEqual([expect.stringMatching(/^cli:uid \d+$/)]);
  });

  it('creates, lists, inspects, rotates and revokes', async () => {
    const created = await cli(
      'create --owner acme --scope orders:read --scope users:* --days 30 --ip 10.0.0.0/8 --meta team=billing --policy partner --max-uses 5 --actor ada',
    );
    expect(created.code).toBe(0);
    expect(created.out).toMatch(/^sk-live-[0-9A-Za-z]{54}$/);
    expect(created.err).not.toContain(created.out);
    const id = created.out.slice(8, 24);

    const listed = await cli('list --owner acme --json');
    expect(JSON.parse(listed.out).records).toMatchObject([
      {
        id,
        scopes: ['orders:read', 'users:*'],
        metadata: { team: 'billing' },
        rateLimit: { policy: 'partner' },
        maxUses: 5,
      },
    ]);
    expect((await cli('list --owner acme')).out).toContain(
      `${id}  sk-live-${id.slice(0, 8)}…  active`,
    );

    const rotated = JSON.parse((await cli(`rotate ${id} --overlap 3600 --json`)).out);
    expect(rotated).toMatchObject({
      key: expect.stringMatching(/^sk-live-/),
      record: { predecessorId: id },
    });

    expect((await cli(`revoke ${id} --reason "left the company"`)).out).toContain(
      'revoked (left the company)',
    );
    const inspected = JSON.parse((await cli('inspect - --json', `${created.out}\n`)).out);
    expect(inspected.record).toMatchObject({ id, revokedReason: 'left the company' });
    expect(inspected.trail.map(({ event }: { event: string }) => event)).toEqual([
      'revoked',
      'rotated',
      'created',
    ]);
    expect(inspected.trail[2].actor).toBe('ada');
    expect(inspected.trail[0].actor).toMatch(/^cli:/);

    const due = JSON.parse((await cli('due --days 31 --json')).out);
    expect(due.records.map((record: { id: string }) => record.id)).toEqual([rotated.record.id]);
  });

  it('pages by cursor', async () => {
    for (const _ of [1, 2, 3]) await cli('create --owner paged');
    const first = JSON.parse((await cli('list --owner paged --limit 2 --json')).out);
    expect(first.records).toHaveLength(2);
    const second = JSON.parse(
      (await cli(`list --owner paged --limit 2 --cursor ${first.cursor} --json`)).out,
    );
    expect(second.records).toHaveLength(1);
  });

  it('closes what the configuration opened', async () => {
    const module = (await import(pathToFileURL(join(dir, 'api-keys.config.mjs')).href)) as {
      closed: number;
    };
    const before = module.closed;
    await cli('list --owner acme');
    await cli('inspect 0123456789abcdef');
    expect(module.closed).toBe(before + 2);
  });

  it('takes no key where an id is wanted, and does not repeat it', async () => {
    const { out: key } = await cli('create --owner acme');
    for (const command of [
      `inspect ${key}`,
      `revoke ${key} --reason x`,
      `rotate ${key} --overlap 1`,
    ]) {
      const { code, out, err } = await cli(command);
      expect(code).toBe(2);
      expect(out + err).not.toContain(key);
      expect(err).toContain('shell history');
    }
  });

  it.each([
    ['', 2],
    ['--help', 0],
    ['frobnicate', 2],
    ['create', 2],
    ['create --owner a --days soon', 2],
    ['create --owner a --nonsense', 2],
    ['create --owner a --days 1000', 1],
    ['create --owner a --meta x', 2],
    ['revoke 0123456789abcdef --reason x', 1],
    ['revoke 0123456789abcdef', 2],
    ['inspect 0123456789abcdef', 1],
    ['list --owner a --config missing.mjs', 1],
    ['rules', 2],
    ['rules gitleaks --prefix "a b"', 1],
  ])('answers "%s" with exit code %i', async (args, code) => {
    expect((await cli(args)).code).toBe(code);
  });

  it('writes rule files without a configuration', async () => {
    expect((await cli('rules gitleaks --brand acme')).out).toContain('[[rules]]');
    expect((await cli('rules trufflehog --prefix pk --environment test')).out).toContain(
      'pk-test-',
    );
    expect(JSON.parse((await cli('rules github --separator _')).out)).toMatchObject({
      secret_format: 'sk_live_[0-9A-Za-z]{54}',
    });
  });

  it('runs as a program', async () => {
    const program = fileURLToPath(new URL('../src/cli.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [program, 'create', '--owner', 'acme'],
      { cwd: dir },
    );
    expect(stdout).toMatch(/^sk-live-[0-9A-Za-z]{54}\n$/);
    const failed = await promisify(execFile)(process.execPath, [program, 'nonsense'], {
      cwd: dir,
    }).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: 2 });
  });
});
