import * as z from 'zod';
import { caught } from './caught.ts';

/**
 * A copy of a schema in which every object refuses the keys it does not name, at every level. `z.object` drops them in silence, which hides
 * mistakes and attempts alike. An object with a `catchall` of its own keeps it: it names what it takes. What a check throws is refused where it stands.
 */
export function strict<Schema extends z.core.$ZodType>(schema: Schema): Schema {
  return copyOf(schema, new Map()) as Schema;
}

type Copies = Map<z.core.$ZodType, z.core.$ZodType>;

function copyOf(schema: z.core.$ZodType, copies: Copies): z.core.$ZodType {
  const existing = copies.get(schema);
  if (existing) return existing;
  const inner = (part: z.core.$ZodType): z.core.$ZodType => copyOf(part, copies);
  const { def } = (schema as z.core.$ZodTypes)._zod;
  const changes = changesOf(def, inner);
  const copy = caught(
    changes ? z.clone(schema, withChanges(def, changes) as typeof def) : z.clone(schema),
  );
  copies.set(schema, copy);
  return copy;
}

// Getters stay getters: a schema that contains itself must not be entered until it is used, when its copy is there.
function withChanges(def: object, changes: object): object {
  return Object.defineProperties(
    {},
    {
      ...Object.getOwnPropertyDescriptors(def),
      ...Object.getOwnPropertyDescriptors(changes),
    },
  );
}

type Def = z.core.$ZodTypes['_zod']['def'];

function changesOf(
  def: Def,
  inner: (part: z.core.$ZodType) => z.core.$ZodType,
): object | undefined {
  switch (def.type) {
    case 'object': {
      let shape: Record<string, z.core.$ZodType> | undefined;
      return {
        get shape() {
          shape ??= Object.fromEntries(
            Object.entries(def.shape).map(([name, part]) => [name, inner(part)]),
          );
          return shape;
        },
        catchall: def.catchall ? inner(def.catchall) : z.never(),
      };
    }
    case 'array':
      return { element: inner(def.element) };
    case 'tuple':
      return { items: def.items.map(inner), rest: def.rest ? inner(def.rest) : null };
    case 'record':
    case 'map':
      return { keyType: inner(def.keyType), valueType: inner(def.valueType) };
    case 'set':
      return { valueType: inner(def.valueType) };
    case 'union':
      return { options: def.options.map(inner) };
    case 'intersection':
      return { left: inner(def.left), right: inner(def.right) };
    case 'optional':
    case 'nullable':
    case 'default':
    case 'prefault':
    case 'catch':
    case 'readonly':
    case 'nonoptional':
    case 'success':
    case 'promise':
      return { innerType: inner(def.innerType) };
    case 'pipe':
      return { in: inner(def.in), out: inner(def.out) };
    case 'lazy':
      // zod remembers on the definition what the getter gave.
      return { getter: () => inner(def.getter()), _cachedInner: undefined };
    default:
      return undefined;
  }
}
