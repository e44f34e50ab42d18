import { join, resolve } from 'node:path';
import ts from 'typescript';
import type { Package } from './workspace.ts';

/**
 * What a package exports, as text: per subpath, each exported name with its declarations, without comments and bodies.
 * Read from the declaration files that `tsc --build` wrote.
 */
export function publicApiOf({ folder, manifest }: Package): string {
  const entries = Object.entries(manifest.exports ?? {}).filter(([, target]) =>
    target.endsWith('.ts'),
  );
  const files = entries.map(([, target]) => declarationFileOf(folder, target));
  const program = ts.createProgram(files, {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    skipLibCheck: true,
    types: ['node'],
  });
  return entries
    .map(
      ([subpath], index) =>
        `## ${subpath}\n\n${exportsOf(program, files[index] ?? '').join('\n')}\n`,
    )
    .join('\n');
}

function declarationFileOf(folder: string, target: string): string {
  return resolve(join(folder, '.tsbuild', target.replace(/\.ts$/, '.d.ts')));
}

function exportsOf(program: ts.Program, file: string): readonly string[] {
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  if (!source) throw new Error(`${file} is missing: run "tsc --build" first`);
  const module = checker.getSymbolAtLocation(source);
  const symbols = module ? checker.getExportsOfModule(module) : [];
  return symbols
    .map((symbol) => {
      const target =
        symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      return { name: symbol.name, text: declarationsOf(target) };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, text }) => `### ${name}\n\n\`\`\`ts\n${text}\n\`\`\`\n`);
}

const printer = ts.createPrinter({ removeComments: true });

function declarationsOf(symbol: ts.Symbol): string {
  return (symbol.declarations ?? [])
    .map((declaration) => {
      const statement = ts.isVariableDeclaration(declaration)
        ? declaration.parent.parent
        : declaration;
      return printer.printNode(ts.EmitHint.Unspecified, statement, statement.getSourceFile());
    })
    .join('\n');
}
