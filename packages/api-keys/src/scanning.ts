import { assertKnown, type OptionNames } from '@countersign/options';
import { BODY_LENGTH, type KeyFormatOptions, keyHead } from './key-format.ts';

const KNOWN: OptionNames<KeyFormatOptions> = {
  prefix: true,
  environment: true,
  brand: true,
  separator: true,
};

/** Rules that make scanners find this service's keys. */
export interface SecretScanningRules {
  /** For `.gitleaks.toml`. */
  readonly gitleaks: string;
  /** For trufflehog's `--config`. */
  readonly trufflehog: string;
  /** The fields of GitHub's form for custom patterns, and of its partner program, as JSON. */
  readonly github: string;
}

/**
 * A regular expression (RE2, Hyperscan, PCRE and JavaScript alike, no look-around) that matches the keys of this
 * format. The checksum then tells a key from what only looks like one: `parseKey`.
 * @throws TypeError for a prefix, environment, brand or separator that could not be read back.
 */
export function secretScanningPattern(options: KeyFormatOptions): string {
  assertKnown(options, KNOWN);
  return `${keyHead(options).head}[0-9A-Za-z]{${BODY_LENGTH}}`;
}

/** Rule files for gitleaks, trufflehog and GitHub. The generated text is complete; write it to a file. */
export function secretScanningRules(options: KeyFormatOptions): SecretScanningRules {
  const { head } = keyHead(options);
  const pattern = secretScanningPattern(options);
  const name = `${head.slice(0, -1)} API key`;
  const slug = `${head.slice(0, -1).toLowerCase().replaceAll('_', '-')}-api-key`;
  return {
    gitleaks: `[[rules]]
id = "${slug}"
description = "${name}"
regex = '''\\b(${pattern})\\b'''
secretGroup = 1
keywords = ["${head.toLowerCase()}"]
`,
    trufflehog: `detectors:
  - name: ${slug}
    keywords:
      - ${head}
    regex:
      key: '\\b(${pattern})\\b'
`,
    github: `${JSON.stringify(
      {
        name,
        type: slug.replaceAll('-', '_'),
        secret_format: pattern,
        before_secret: '\\A|[^0-9A-Za-z]',
        after_secret: '\\z|[^0-9A-Za-z]',
      },
      undefined,
      2,
    )}\n`,
  };
}
