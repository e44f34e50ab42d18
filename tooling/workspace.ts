import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** One package of the workspace, as its manifest describes it. */
export interface Package {
  /** Without the scope: `rate-limit`. */
  readonly name: string;
  readonly folder: string;
  readonly manifest: Manifest;
}

/** The part of package.json that the conventions look at. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly description?: string;
  readonly private?: boolean;
  readonly sideEffects?: boolean;
  readonly license?: string;
  readonly engines?: Readonly<Record<string, string>>;
  readonly files?: readonly string[];
  readonly bin?: Readonly<Record<string, string>>;
  readonly exports?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
  readonly publishConfig?: {
    readonly provenance?: boolean;
    readonly exports?: Readonly<Record<string, unknown>>;
    readonly bin?: Readonly<Record<string, string>>;
  };
}

/** Every package under `packages/`, in the order of their names. */
export const packages: readonly Package[] = globSync('packages/*/package.json')
  .sort()
  .map((path) => ({
    name: basename(dirname(path)),
    folder: dirname(path),
    manifest: JSON.parse(readFileSync(path, 'utf8')) as Manifest,
  }));

/** The packages that are published. */
export const published: readonly Package[] = packages.filter(({ manifest }) => !manifest.private);

/** The text of a file of a package; empty when there is none. */
export function textOf({ folder }: Package, file: string): string {
  const path = join(folder, file);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** The TypeScript files of a package below one of its folders, relative to the repository. */
export function sourcesOf({ folder }: Package, below = 'src'): readonly string[] {
  return globSync(`${folder}/${below}/**/*.ts`).sort();
}
