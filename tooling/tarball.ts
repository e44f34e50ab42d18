import { execFileSync } from 'node:child_process';

const expectedFiles =
  /^package\/(?:package\.json|README\.md|LICENSE|CHANGELOG\.md|dist\/[\w.-]+\.(?:js|d\.ts|js\.map)|rules\/[\w.-]+)$/;

const machinePath = /(?:^|["'`\s(:=]|file:\/\/)\/(?:home|root|Users|work|builds?|tmp)\/[\w.-]+/m;

const secrets: readonly (readonly [what: string, pattern: RegExp])[] = [
  ['a private key', /-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]{16}/],
  ['a webhook secret', /whs(?:ec|k)_[A-Za-z0-9+/=]{24}/],
  ['an API key', /\b[sp]k[-_]live[-_][A-Za-z0-9]{20}/],
  ['a workspace reference', /"workspace:/],
];

/** What a published tarball must not hold: files nobody asked for, paths of the machine that built it, secrets. */
export function findLeaks(tarball: string): readonly string[] {
  const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  return files.flatMap((file) => {
    const unexpected = expectedFiles.test(file) ? [] : [`${file} does not belong in the tarball`];
    const text = execFileSync('tar', ['-xOzf', tarball, file], {
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
    });
    return [...unexpected, ...leaksIn(text).map((what) => `${file} holds ${what}`)];
  });
}

/** The things a published text must not hold. */
export function leaksIn(text: string): readonly string[] {
  const held = secrets.filter(([, pattern]) => pattern.test(text)).map(([what]) => what);
  return namesMachine(text) ? ['a path of a machine', ...held] : held;
}

/** Whether a text names a folder of the machine it was written on. */
export function namesMachine(text: string): boolean {
  return machinePath.test(text);
}
