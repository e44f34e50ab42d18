import { type Expression, parsePattern } from './pattern-syntax.ts';

/**
 * How many steps a pattern may take on the longest text it can meet. Node's engine backtracks at 1 to 5 ns a step: this is at most 5 ms.
 */
export const MAX_PATTERN_STEPS = 1_000_000;

/** More would be a grammar, not a pattern; it also bounds the analysis. */
const MAX_POSITIONS = 2000;

/**
 * An upper bound for the steps that a backtracking engine takes to match, or to fail on, any text of `maxLength` UTF-16 units. `Infinity` for a
 * pattern that may be exponential, and for one that cannot be analysed (lookaround, backreferences, the flag `v`).
 *
 * The engine walks the tree of all ways to read the text. Each way is a path in the pattern's position automaton (Glushkov 1961), where an
 * expression that can do the same in two ways has two edges. A loop that can read some text in two ways doubles at each turn: exponential. Every
 * other loop has one way in, and one way out at each of `maxLength` characters: what follows it is tried that often, unless the next
 * character decides between staying and leaving.
 */
export function patternSteps(pattern: RegExp, maxLength: number): number {
  const expression = parsePattern(pattern);
  if (expression === undefined) return Number.POSITIVE_INFINITY;
  const automaton = new Positions();
  const whole = automaton.add({ kind: 'sequence', items: [expression, end] });
  if (whole === undefined) return Number.POSITIVE_INFINITY;
  const fromStart = automaton.branch(whole.first, stepsFrom(automaton, maxLength));
  const starts = beginsAtStart(expression) ? 1 : maxLength + 1;
  return fromStart * starts;
}

/** Behind the last character, where no character is: reached once for each way to read what is before it. */
const end: Expression = { kind: 'characters', set: 0n };

/** How often each position can be reached, by position. */
type Edges = ReadonlyMap<number, number>;

interface Part {
  /** In how many ways it reads nothing. */
  readonly nullable: number;
  readonly first: Edges;
  readonly last: Edges;
}

/** The position automaton: a state for each character class of the pattern, an edge for each way to get from one to another. */
class Positions {
  readonly sets: bigint[] = [];
  readonly follow: Map<number, number>[] = [];

  /** Adds an expression; undefined when the automaton would grow too large. */
  add(expression: Expression): Part | undefined {
    switch (expression.kind) {
      case 'empty':
      case 'start':
        return { nullable: 1, first: new Map(), last: new Map() };
      case 'characters':
        return this.#position(expression.set);
      case 'sequence':
        return this.#sequence(expression.items);
      case 'choice':
        return this.#choice(expression.options);
      case 'repeat':
        return this.#repeat(expression.body, expression.min, expression.max);
    }
  }

  /** The steps of trying the edges in turn: one each, and the ways of those that one character can take together. */
  branch(edges: Edges, stepsFrom: (position: number) => number): number {
    let tries = 1;
    let worst = 0;
    for (const [chosen, times] of edges) {
      tries += times;
      let together = 0;
      for (const [other, ways] of edges) {
        if (this.overlap(chosen, other)) together += ways * stepsFrom(other);
      }
      worst = Math.max(worst, together);
    }
    return tries + worst;
  }

  overlap(one: number, other: number): boolean {
    return ((this.sets[one] ?? 0n) & (this.sets[other] ?? 0n)) !== 0n;
  }

  #position(set: bigint): Part | undefined {
    if (this.sets.length >= MAX_POSITIONS) return undefined;
    const position = this.sets.push(set) - 1;
    this.follow.push(new Map());
    const edges = new Map([[position, 1]]);
    return { nullable: 0, first: edges, last: edges };
  }

  #sequence(items: readonly Expression[]): Part | undefined {
    let whole: Part = { nullable: 1, first: new Map(), last: new Map() };
    for (const item of items) {
      const next = this.add(item);
      if (next === undefined) return undefined;
      this.#connect(whole.last, next.first);
      whole = {
        nullable: whole.nullable * next.nullable,
        first: sum(whole.first, scaled(next.first, whole.nullable)),
        last: sum(next.last, scaled(whole.last, next.nullable)),
      };
    }
    return whole;
  }

  #choice(options: readonly Expression[]): Part | undefined {
    let whole: Part = { nullable: 0, first: new Map(), last: new Map() };
    for (const option of options) {
      const next = this.add(option);
      if (next === undefined) return undefined;
      whole = {
        nullable: whole.nullable + next.nullable,
        first: sum(whole.first, next.first),
        last: sum(whole.last, next.last),
      };
    }
    return whole;
  }

  /** `x{2,5}` is counted as `xx+`: more ways than there are, never fewer. */
  #repeat(body: Expression, min: number, max: number): Part | undefined {
    // A body that is empty takes no position: the size of the automaton would not bound its copies.
    if (min > MAX_POSITIONS) return undefined;
    const copies = (count: number): Expression[] => Array.from({ length: count }, () => body);
    if (min === max) return this.#sequence(copies(min));
    if (min > 1) {
      return this.#sequence([...copies(min - 1), { kind: 'repeat', body, min: 1, max: Infinity }]);
    }
    const once = this.add(body);
    if (once === undefined) return undefined;
    if (max > 1) this.#connect(once.last, once.first);
    // An engine gives up an iteration that reads nothing, save the first where one is wanted: the next may then read what it could have.
    if (min === 0) return { ...once, nullable: 1 };
    return max > 1 ? { ...once, first: scaled(once.first, 1 + once.nullable) } : once;
  }

  #connect(from: Edges, to: Edges): void {
    for (const [position, ways] of from) {
      const edges = this.follow[position];
      for (const [next, more] of to) edges?.set(next, (edges.get(next) ?? 0) + ways * more);
    }
  }
}

function sum(one: Edges, other: Edges): Edges {
  const both = new Map(one);
  for (const [position, ways] of other) both.set(position, (both.get(position) ?? 0) + ways);
  return both;
}

function scaled(edges: Edges, factor: number): Edges {
  return factor === 0
    ? new Map()
    : new Map([...edges].map(([position, ways]) => [position, ways * factor]));
}

/** The steps from each position on, from the last positions to the first. */
function stepsFrom(automaton: Positions, maxLength: number): (position: number) => number {
  const steps = new Map<number, number>();
  const get = (position: number): number => steps.get(position) ?? 0;
  for (const component of components(automaton.follow)) {
    const cost = componentSteps(automaton, component, maxLength, get);
    for (const position of component) steps.set(position, cost);
  }
  return get;
}

function componentSteps(
  automaton: Positions,
  component: readonly number[],
  maxLength: number,
  stepsFrom: (position: number) => number,
): number {
  const members = new Set(component);
  const [only = 0] = component;
  if (component.length === 1 && !automaton.follow[only]?.has(only)) {
    return automaton.branch(automaton.follow[only] ?? new Map(), stepsFrom);
  }
  let tries = 0;
  let exits = 0;
  let isForced = true;
  for (const position of component) {
    const edges = [...(automaton.follow[position] ?? [])];
    const inside = edges.filter(([next]) => members.has(next));
    const outside = edges.filter(([next]) => !members.has(next));
    for (const [index, [next, ways]] of inside.entries()) {
      const isAmbiguous =
        ways > 1 || inside.slice(index + 1).some(([other]) => automaton.overlap(next, other));
      if (isAmbiguous) return Number.POSITIVE_INFINITY;
      if (outside.some(([other]) => automaton.overlap(next, other))) isForced = false;
    }
    tries = Math.max(
      tries,
      edges.reduce((all, [, ways]) => all + ways, 1),
    );
    exits = Math.max(exits, automaton.branch(new Map(outside), stepsFrom));
  }
  return isForced ? maxLength * tries + exits : maxLength * (tries + exits);
}

/** The strongly connected components (Tarjan 1972), each after all that can be reached from it. */
function components(follow: readonly Edges[]): readonly (readonly number[])[] {
  const found: number[][] = [];
  const index = new Map<number, number>();
  const low: number[] = [];
  const stack: number[] = [];
  const onStack = new Set<number>();
  const visit = (position: number): void => {
    const order = index.size;
    index.set(position, order);
    low[position] = order;
    stack.push(position);
    onStack.add(position);
    for (const next of follow[position]?.keys() ?? []) {
      if (!index.has(next)) visit(next);
      if (onStack.has(next)) low[position] = Math.min(low[position] ?? 0, low[next] ?? 0);
    }
    if (low[position] === order) {
      const component = stack.splice(stack.indexOf(position));
      for (const member of component) onStack.delete(member);
      found.push(component);
    }
  };
  for (const position of follow.keys()) if (!index.has(position)) visit(position);
  return found;
}

function beginsAtStart(expression: Expression): boolean {
  switch (expression.kind) {
    case 'start':
      return true;
    case 'sequence':
      return expression.items[0] !== undefined && beginsAtStart(expression.items[0]);
    case 'choice':
      return expression.options.every(beginsAtStart);
    default:
      return false;
  }
}
