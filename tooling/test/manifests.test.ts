import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { published, textOf } from '../workspace.ts';

const optionalPeers = ['ioredis', '@countersign/redis', '@countersign/guard', 'vitest', 'bullmq'];

describe.each(published)('$name', (pkg) => {
  const { manifest, folder } = pkg;

  test('published exports and commands mirror the source ones', () => {
    expect(Object.keys(manifest.publishConfig?.exports ?? {})).toEqual(
      Object.keys(manifest.exports ?? {}),
    );
    expect(Object.keys(manifest.publishConfig?.bin ?? {})).toEqual(Object.keys(manifest.bin ?? {}));
  });

  test('every export is there', () => {
    for (const target of Object.values(manifest.exports ?? {})) {
      expect(existsSync(join(folder, target)), target).toBe(true);
    }
  });

  test('is published with provenance, without side effects, for a Node it was tested on', () => {
    expect(manifest).toMatchObject({
      sideEffects: false,
      license: 'Apache-2.0',
      engines: { node: '>=22.19' },
      publishConfig: { access: 'public', provenance: true },
    });
    expect(manifest.files).toContain('dist');
  });

  test('who uses memory installs no Redis client, and who uses the core installs no framework', () => {
    const required = Object.keys(manifest.dependencies ?? {});
    expect(required.filter((name) => optionalPeers.includes(name))).toEqual([]);
    const peers = Object.keys(manifest.peerDependencies ?? {}).filter((name) =>
      optionalPeers.includes(name),
    );
    const mandatory = peers.filter((name) => !manifest.peerDependenciesMeta?.[name]?.optional);
    expect(mandatory).toEqual(pkg.name === 'redis' ? ['ioredis'] : []);
  });

  test('has a README that begins with its name', () => {
    expect(textOf(pkg, 'README.md')).toMatch(new RegExp(`^# ${manifest.name}\n`));
  });

  test('is announced in a changeset or a changelog', () => {
    const announced =
      existsSync(`.changeset/${pkg.name}.md`) || textOf(pkg, 'CHANGELOG.md').length > 0;
    expect(announced).toBe(true);
  });
});
