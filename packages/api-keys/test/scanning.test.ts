import { parseKey, secretScanningPattern, secretScanningRules } from '@countersign/api-keys';
import { describe, expect, it } from 'vitest';
import { managed } from './fixtures.ts';

const FORMATS = [
  {},
  { prefix: 'pk', environment: 'test' },
  { brand: 'acme', separator: '_' as const },
  { prefix: 'my_sk', brand: 'a-b', environment: 'EU1' },
];

describe('secret scanning', () => {
  it.each(FORMATS)('finds the keys of the format %j and no others', async (format) => {
    const { key } = await managed(format).keys.create({ owner: 'a', scopes: [] });
    const { key: other } = await managed({ prefix: 'zz' }).keys.create({ owner: 'a', scopes: [] });
    const pattern = new RegExp(secretScanningPattern(format));
    expect(pattern.exec(`TOKEN="${key}"; next`)?.[0]).toBe(key);
    expect(pattern.test(other)).toBe(false);
    expect(pattern.test(key.slice(0, -1))).toBe(false);
    expect(parseKey(key)).toBeDefined();
  });

  it('gives rule files whose expressions match a key wherever it is written', async () => {
    const format = { brand: 'acme', environment: 'live' };
    const { key } = await managed(format).keys.create({ owner: 'a', scopes: [] });
    const rules = secretScanningRules(format);
    const gitleaks = /^regex = '''(.+)'''$/m.exec(rules.gitleaks)?.[1] ?? '';
    const trufflehog = /key: '(.+)'$/m.exec(rules.trufflehog)?.[1] ?? '';
    const github = JSON.parse(rules.github) as Record<string, string>;
    for (const text of [
      key,
      `key=${key}`,
      `'${key}'`,
      `https://x.test/?k=${key}&a`,
      `Authorization: ApiKey ${key}\r\n`,
    ]) {
      expect(new RegExp(gitleaks).exec(text)?.[1]).toBe(key);
      expect(new RegExp(trufflehog).exec(text)?.[1]).toBe(key);
      expect(new RegExp(github['secret_format'] ?? '').exec(text)?.[0]).toBe(key);
    }
    // A longer run of letters is something else.
    expect(new RegExp(gitleaks).test(`${key}a`)).toBe(false);
    expect(rules.gitleaks).toContain('keywords = ["acme-sk-live-"]');
    expect(rules.gitleaks).toContain('id = "acme-sk-live-api-key"');
    expect(rules.trufflehog).toContain('- acme-sk-live-');
    expect(github).toMatchObject({ name: 'acme-sk-live API key', type: 'acme_sk_live_api_key' });
  });
});
