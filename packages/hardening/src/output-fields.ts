import type * as z from 'zod';
import { pointer as pointerTo } from './field-error.ts';

/** Deeper than anybody writes a schema; only one that makes a new schema at each level gets there. */
const MAX_LEVELS = 100;

/** What a schema can let out. */
export interface OutputFields {
  /** The names of all members it declares, at any level. */
  readonly names: ReadonlySet<PropertyKey>;
  /** Where values can stand, as JSON Pointers in URI fragments; `*` for any index or key. */
  readonly pointers: readonly string[];
}

/** Of a schema's definition, what leads to the schemas inside. */
interface Definition {
  readonly type: string;
  readonly mode?: string;
  readonly checks?: readonly { readonly _zod: { readonly def: { readonly check?: string } } }[];
  readonly values?: readonly unknown[];
  readonly shape?: Readonly<Record<string, z.core.$ZodType>>;
  readonly catchall?: z.core.$ZodType;
  readonly element?: z.core.$ZodType;
  readonly items?: readonly z.core.$ZodType[];
  readonly rest?: z.core.$ZodType | null;
  readonly options?: readonly z.core.$ZodType[];
  readonly left?: z.core.$ZodType;
  readonly right?: z.core.$ZodType;
  readonly keyType?: z.core.$ZodType;
  readonly valueType?: z.core.$ZodType;
  readonly innerType?: z.core.$ZodType;
  readonly catchValue?: (context: never) => unknown;
  readonly out?: z.core.$ZodType;
  readonly getter?: () => z.core.$ZodType;
}

type Child = readonly [step: string, schema: z.core.$ZodType | null | undefined];

const scalars: ReadonlySet<string> = new Set([
  'string',
  'number',
  'int',
  'boolean',
  'null',
  'undefined',
  'void',
  'never',
  'literal',
  'enum',
  'date',
  'template_literal',
  'success',
]);

/**
 * Walks a schema and refuses whatever would let out what it does not describe.
 * @throws TypeError that names every such place.
 */
export function outputFields(schema: z.core.$ZodType): OutputFields {
  if (schema?._zod === undefined) throw new TypeError('output: expected a schema of zod 4');
  const names = new Set<PropertyKey>();
  const pointers = new Set<string>();
  const open: string[] = [];
  const seen = new Set<z.core.$ZodType>();
  const walk = (at: z.core.$ZodType, pointer: string): void => {
    if (seen.has(at)) return;
    if (seen.size > MAX_LEVELS) throw new TypeError('output: schema without end');
    seen.add(at);
    const def = at._zod.def as unknown as Definition;
    const objection = objectionTo(def);
    if (objection !== undefined) open.push(`${pointer} (${objection})`);
    if (scalars.has(def.type)) pointers.add(pointer);
    for (const name of Object.keys(def.shape ?? {})) names.add(name);
    for (const [step, child] of childrenOf(def)) if (child) walk(child, pointer + step);
    // A schema that is used in two places is walked in both; one that contains itself ends here.
    seen.delete(at);
  };
  walk(schema, '#');
  if (open.length > 0) {
    throw new TypeError(`output: not a schema of what may leave: ${open.join(', ')}`);
  }
  return { names, pointers: [...pointers] };
}

/** Why a schema of this kind cannot say exactly what leaves; `undefined` when it can. */
function objectionTo(def: Definition): string | undefined {
  const { type, mode, checks, values, shape, catchValue } = def;
  if (type === 'transform') return 'transform: pipe its result into a schema';
  if (mode === 'loose') return 'loose record: its other members are not described';
  if (values?.some((value) => typeof value === 'bigint')) return 'bigint: JSON has none';
  if (shape && Object.hasOwn(shape, '__proto__')) return '__proto__: no name for a member';
  if (!scalars.has(type) && checks?.some(({ _zod }) => _zod.def.check === 'overwrite')) {
    return 'overwrite: its result is not described';
  }
  // zod holds neither the value of a `catch` nor that of a `default` to the schema inside.
  if ((type === 'catch' || type === 'default') && !isScalar(def)) {
    return type === 'catch'
      ? 'catch: its value is not held to the schema'
      : 'default: its value is not held to the schema; that of prefault is';
  }
  if (catchValue && catchValue.length > 0) return 'catch: it may give back what was refused';
  return scalars.has(type) || containers.has(type) ? undefined : type;
}

/** Whether nothing stands inside a value of this kind. */
function isScalar(def: Definition): boolean {
  if (scalars.has(def.type)) return true;
  const { innerType, options, out } = def;
  const inside = [innerType, out, ...(options ?? [])].filter((schema) => schema !== undefined);
  return (
    inside.length > 0 && inside.every(({ _zod }) => isScalar(_zod.def as unknown as Definition))
  );
}

/** The schemas that decide about a value's parts, and where those stand. */
function childrenOf(def: Definition): readonly Child[] {
  return containers.get(def.type)?.(def) ?? [];
}

const inner = ({ innerType }: Definition): readonly Child[] => [['', innerType]];

const containers: ReadonlyMap<string, (def: Definition) => readonly Child[]> = new Map([
  ['optional', inner],
  ['nullable', inner],
  ['nonoptional', inner],
  ['default', inner],
  ['prefault', inner],
  ['catch', inner],
  ['readonly', inner],
  ['lazy', ({ getter }) => [['', getter?.()]]],
  // What goes in does not leave.
  ['pipe', ({ out }) => [['', out]]],
  ['array', ({ element }) => [['/*', element]]],
  [
    'tuple',
    ({ items = [], rest }) => [...items.map((item, at): Child => [`/${at}`, item]), ['/*', rest]],
  ],
  [
    'object',
    ({ shape = {}, catchall }) => [
      ...Object.entries(shape).map(([name, value]): Child => [pointerTo([name]).slice(1), value]),
      ['/*', catchall],
    ],
  ],
  ['record', ({ valueType }) => [['/*', valueType]]],
  ['union', ({ options = [] }) => options.map((option): Child => ['', option])],
  [
    'intersection',
    ({ left, right }) => [
      ['', left],
      ['', right],
    ],
  ],
]);
