import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { run, type Surroundings } from '../src/command.ts';
import { createVerifier, generateSecret, publicKeyOf } from '../src/index.ts';

const secret = generateSecret();
const cli = fileURLToPath(new URL('../src/cli.ts', import.meta.url));

/** Runs the command in this process, and collects what it says. */
async function call(args: readonly string[], world: Partial<Surroundings> = {}) {
  const lines: string[] = [];
  const errors: string[] = [];
  const code = await run(args, {
    env: { WEBHOOK_SECRET: secret },
    stdin: (async function* () {
      yield Buffer.from('from stdin');
    })(),
    print: (line) => void lines.push(line),
    complain: (line) => void errors.push(line),
    signal: new AbortController().signal,
    ...world,
  });
  return { code, lines, errors };
}

describe('the command line', () => {
  it('makes secrets and key pairs', async () => {
    const [symmetric = ''] = (await call(['secret'])).lines;
    expect(() => createVerifier({ secrets: symmetric })).not.toThrow();
    const [privateKey = '', publicKey = ''] = (await call(['secret', '--ed25519'])).lines;
    expect(publicKeyOf(privateKey)).toBe(publicKey);
  });

  it.each(['standard', 'timestamped', 'stripe', 'github', 'slack', 'shopify'])(
    'verifies what it signed: %s',
    async (scheme) => {
      const { lines } = await call(['sign', '{"a":1}', '--scheme', scheme]);
      const headers = lines.flatMap((line) => ['--header', line]);
      const good = await call(['verify', '{"a":1}', '--scheme', scheme, ...headers]);
      expect(good).toEqual({ code: 0, lines: ['verified with secret 1'], errors: [] });
      const bad = await call(['verify', '{"a":2}', '--scheme', scheme, ...headers]);
      expect(bad.code).toBe(1);
      expect(bad.errors[0]).toMatch(/^ERR_WEBHOOKS_SIGNATURE_MISMATCH/);
    },
  );

  it('refuses a header that is given twice', async () => {
    const { lines } = await call(['sign', 'a body']);
    const headers = [...lines, lines.at(-1) ?? ''].flatMap((line) => ['--header', line]);
    const { code, errors } = await call(['verify', 'a body', ...headers]);
    expect(code).toBe(1);
    expect(errors[0]).toMatch(/^ERR_WEBHOOKS_HEADER_DUPLICATE/);
  });

  it('reads the body from standard input', async () => {
    const { lines } = await call(['sign']);
    const headers = lines.flatMap((line) => ['--header', line]);
    expect((await call(['verify', 'from stdin', ...headers])).code).toBe(0);
  });

  it('listens, and tells good from bad', async () => {
    const controller = new AbortController();
    const printed: string[] = [];
    let url = '';
    const started = new Promise<void>((resolve) => {
      const print = (line: string): void => {
        printed.push(line);
        url ||= /http:\S+/.exec(line)?.[0] ?? '';
        if (url) resolve();
      };
      void call(['listen', '--port', '0'], { print, signal: controller.signal });
    });
    await started;
    const sent = await call(['send', url, '{"b":"\u001b[31m"}', '--allow-private']);
    expect(sent.code).toBe(0);
    expect(sent.lines[0]).toMatch(/^delivered 204 in \d+ ms$/);
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    socket.write('POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf');
    await once(socket, 'connect');
    socket.destroy();
    await expect.poll(() => printed).toContain('POST / broke off');
    const forged = await call(['send', url, '{}', '--allow-private'], {
      env: { WEBHOOK_SECRET: generateSecret() },
    });
    expect(forged).toMatchObject({ code: 1 });
    const late = await call(['send', url, '{}', '--allow-private', '--timestamp', '1000']);
    expect(late).toMatchObject({ code: 1, lines: [expect.stringMatching(/^failed 403/)] });
    controller.abort();
    const text = printed.join('\n');
    expect(text).toContain('verified');
    expect(text).toContain('ERR_WEBHOOKS_SIGNATURE_MISMATCH');
    expect(text).toContain('ERR_WEBHOOKS_TIMESTAMP_TOO_OLD');
    expect(text).not.toContain('\u001b');
  });

  it('does not reach private addresses unless it is told to', async () => {
    const { code, lines } = await call(['send', 'http://127.0.0.1:9/', '{}']);
    expect(code).toBe(1);
    expect(lines[0]).toMatch(/^rejected ERR_EGRESS_DENIED/);
  });

  it.each([[[]], [['help']], [['--help']], [['-h']], [['sign', '--help']]])(
    'explains itself when asked: %j',
    async (args) => {
      const { code, lines } = await call(args);
      expect([code, lines[0]]).toEqual([0, expect.stringMatching(/^usage:/)]);
    },
  );

  it('names a file that it cannot read once', async () => {
    const { code, errors } = await call(['sign', '@/nowhere']);
    expect([code, errors[0]?.split('ENOENT').length]).toEqual([2, 2]);
  });

  it.each([
    [['nonsense']],
    // A body with spaces, and no quotes: a part of it would be signed.
    [['sign', 'hello', 'world']],
    [['verify', 'hello', 'world']],
    [['send', 'http://127.0.0.1:9/', 'hello', 'world']],
    [['listen', '8080']],
    [['secret', '32']],
    [['listen', '--port', 'http']],
    [['sign', 'x', '--timestamp', 'now']],
    [['send', 'http://127.0.0.1:9/', 'x', '--timestamp', 'now']],
    [['sign', '--nonsense']],
    [['sign', '--scheme', 'toString']],
    [['send']],
  ])('answers %j with 2', async (args) => {
    expect((await call(args)).code).toBe(2);
  });

  it('says what is missing, not what the secret was', async () => {
    const { errors, code } = await call(['sign', 'x'], { env: {} });
    expect([code, errors]).toEqual([2, ['WEBHOOK_SECRET is not set']]);
    const wrong = await call(['sign', 'x'], { env: { WEBHOOK_SECRET: 'whsec_abcd' } });
    expect(wrong.errors.join()).not.toContain('abcd');
  });

  it.each([
    ['@countersign/egress', ['--allow-private']],
    ['@countersign/egress', []],
    ['@countersign/retry', ['--allow-private']],
  ])(
    'says to install %s when it is not there: %j',
    (missing, flags) => {
      const command = new URL('../src/cli.ts', import.meta.url);
      const script = `
      import { registerHooks } from 'node:module';
      registerHooks({
        resolve(specifier, context, next) {
          if (specifier !== ${JSON.stringify(missing)} || !context.parentURL?.includes('/webhooks/')) return next(specifier, context);
          throw Object.assign(new Error('nowhere'), { code: 'ERR_MODULE_NOT_FOUND' });
        },
      });
      process.argv.splice(1, 0, 'countersign-webhooks');
      await import(${JSON.stringify(String(command))});`;
      const args = ['send', 'http://127.0.0.1:9/', '{}', ...flags];
      const { stderr, status } = spawnSync(
        process.execPath,
        ['--input-type=module', '-e', script, '--', ...args],
        { encoding: 'utf8', timeout: 25_000, env: { ...process.env, WEBHOOK_SECRET: secret } },
      );
      expect([status, stderr]).toEqual([
        1,
        `ERR_WEBHOOKS_PEER_MISSING: to send webhooks, install ${missing}\n`,
      ]);
    },
    30_000,
  );

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'is ended by %s while it waits for a body',
    async (name) => {
      const program = spawn(process.execPath, [cli, 'sign'], {
        env: { ...process.env, WEBHOOK_SECRET: secret },
        stdio: ['pipe', 'ignore', 'ignore'],
      });
      try {
        // More than a pipe holds: once it is written, somebody reads.
        await new Promise((resolve) => program.stdin.write(Buffer.alloc(1_048_576), resolve));
        const ended = once(program, 'exit');
        program.kill(name);
        expect(await ended).toEqual([2, null]);
      } finally {
        program.kill('SIGKILL');
      }
    },
    30_000,
  );

  it('runs as a program', () => {
    const { stdout, status } = spawnSync(process.execPath, [cli, 'secret'], { encoding: 'utf8' });
    expect([status, stdout]).toEqual([0, expect.stringMatching(/^whsec_\S{44}\n$/)]);
  }, 30_000);
});
