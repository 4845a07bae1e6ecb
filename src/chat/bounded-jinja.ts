/**
 * Jinja, by a library, for templates that came with a model from anywhere: what a template may compute is counted while
 * it runs and bounded before it happens.
 *
 * The unit of work is a character read, copied or allocated; other costs are counted in characters too. The library calls
 * `evaluate` for each node of a template; there the operands of what can grow are evaluated first and handed over.
 */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';

/** Of a run on no input; each character of input allows some more. About a second and 64 MB at the very worst. */
const MAX_WORK = 2 ** 24, WORK_PER_CHARACTER = 64;
/** Of one text, or of a list written out. */
const MAX_SIZE = 2 ** 22;
const MAX_ITEMS = 2 ** 15;
/** What a node, a call, a variable that is not there, an item of a loop and a method of a text cost. */
const NODE = 64, CALL = 512, MISSING = 1024, ITEM = 512, METHOD = 1024;
/** The library's own patterns take the square of a run of white space. */
const MAX_WHITE_SPACE = 1000;
/** Filters that look at no more than the number of items. */
const SHALLOW = ['length', 'count', 'first', 'last', 'list', 'safe', 'default', 'd', 'reverse', 'selectattr', 'rejectattr', 'map', 'items'];

/** The template is wrong, refuses its input (`raise_exception`), or does more than a chat template has to. */
export class TemplateFault extends Error {}

type Node = { type: string; [field: string]: any };
type Value = ReturnType<Interpreter['evaluate']> & { value: any };

/** A node whose value is known. */
class Given {
  readonly type = 'Given';
  constructor(readonly value: Value) {}
}

export class JinjaTemplate {
  readonly #program: ReturnType<typeof parse>;
  readonly #length: number;
  /** The texts that the template's code spells. */
  readonly literals: readonly string[];
  /** It cannot do without today's date. */
  readonly #needsDate: boolean;

  /** @throws TemplateFault */
  constructor(source: string) {
    this.#length = source.length;
    this.#needsDate = /strftime_now/.test(source) && !/strftime_now\s+is\s+(not\s+)?defined/.test(source);
    if (new RegExp(`\\s{${MAX_WHITE_SPACE}}`).test(source)) throw new TemplateFault(`has ${MAX_WHITE_SPACE} blanks in a row`);
    const tokens = withinBounds(() => tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    this.literals = [...new Set(tokens.filter(token => token.type === 'StringLiteral').map(token => token.value))];
    this.#program = withinBounds(() => parse(tokens));
  }

  /** @throws TemplateFault */
  render(variables: Record<string, unknown>): string {
    const interpreter = new BoundedInterpreter(MAX_WORK + WORK_PER_CHARACTER * JSON.stringify(variables).length, this.#length);
    const { global } = interpreter;
    for (const [name, value] of [['true', true], ['True', true], ['false', false], ['False', false], ['none', null], ['None', null]] as const) global.set(name, value);
    global.set('raise_exception', (message: unknown) => { throw new TemplateFault(`refuses these messages: ${String(message).slice(0, 500)}`); });
    global.set('range', (...bounds: number[]) => interpreter.range(bounds));
    // Otherwise undefined: templates then write a date of their own, and the same messages give the same text every day.
    if (this.#needsDate) global.set('strftime_now', (format: unknown) => formatDate(new Date(), String(format)));
    for (const [name, value] of Object.entries(variables)) global.set(name, value);
    return withinBounds(() => String(interpreter.run(this.#program).value));
  }
}

function withinBounds<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof TemplateFault) throw error;
    throw new TemplateFault(error instanceof RangeError ? 'is nested too deeply, or writes too much' : (error as Error).message || 'ends outside of a loop', { cause: error });
  }
}

class BoundedInterpreter extends Interpreter {
  /** @param left work that may still be done @param templateLength cost of looking through all of the template */
  constructor(private left: number, private readonly templateLength: number) {
    super(new Environment());
  }

  range(bounds: number[]): number[] {
    const [start, stop, step] = bounds.length > 1 ? [bounds[0]!, bounds[1]!, bounds[2] ?? 1] : [0, bounds[0]!, 1];
    const count = Math.max(0, Math.ceil((stop - start) / step));
    this.spend(ITEM * this.itemsWithin(count));
    return Array.from({ length: count }, (_, i) => start + i * step);
  }

  override evaluate(node: any, environment: Environment): Value {
    if (node instanceof Given) return node.value;
    if (!node) return super.evaluate(node, environment);
    this.spend(NODE);
    const ready = this.prepare(node, environment);
    const value: Value = super.evaluate(ready as typeof node, environment);
    if (value.type === 'StringValue') this.sizeWithin(value.value.length);
    else if (Array.isArray(value.value)) this.itemsWithin(value.value.length);
    else if (value.type === 'UndefinedValue') this.spend(MISSING);
    if (node.type === 'FilterExpression' || node.type === 'FilterStatement' || node.type === 'CallExpression') this.spend(shallow(value));
    if (value.type === 'FunctionValue' && ready.type === 'MemberExpression') {
      // A computed name could be any.
      return this.guardMethod(value, ready.object.value, ready.computed ? 'replace' : ready.property.value);
    }
    this.guardText(value);
    return value;
  }

  /** The node with those operands given whose size decides what it costs, and that cost spent. */
  private prepare(node: Node, environment: Environment): Node {
    const give = (child: Node) => new Given(this.evaluate(child, environment));
    switch (node.type) {
      case 'BinaryExpression': {
        if (node.operator.value === 'and' || node.operator.value === 'or') return node;
        const left = give(node.left), right = give(node.right);
        const isText = left.value.type === 'StringValue' && right.value.type === 'StringValue';
        // Engines join texts without a copy.
        if (!isText || !'+~'.includes(node.operator.value)) this.spend(this.size(left.value) + this.size(right.value));
        return { ...node, left, right };
      }
      case 'FilterStatement':
        return this.prepare({ type: 'FilterExpression', operand: { type: 'Program', body: node.body }, filter: node.filter }, environment);
      case 'FilterExpression': {
        const operand = give(node.operand), call = node.filter.type === 'CallExpression';
        const name: string = call ? node.filter.callee.value : node.filter.value;
        this.spend(SHALLOW.includes(name) ? shallow(operand.value) : 8 * this.size(operand.value));
        if (!call || name === 'selectattr' || name === 'rejectattr') return { ...node, operand };
        const args = node.filter.args.map((arg: Node) => arg.type === 'KeywordArgumentExpression' ? { ...arg, value: give(arg.value) }
          : 'argument' in arg ? { ...arg, argument: give(arg.argument) } : give(arg));
        this.checkGrowth(name, operand.value, args.map((arg: any) => arg instanceof Given ? arg.value : (arg.value ?? arg.argument).value));
        return { ...node, operand, filter: { ...node.filter, args } };
      }
      case 'TestExpression': {
        const operand = give(node.operand);
        this.spend(shallow(operand.value));
        return { ...node, operand };
      }
      case 'MemberExpression': {
        const object = give(node.object);
        this.spend(node.computed ? node.property?.type === 'SliceExpression' ? shallow(object.value) : 0 : object.value.type === 'StringValue' ? METHOD : 0);
        return { ...node, object };
      }
      case 'For': {
        const select = node.iterable.type === 'SelectExpression';
        const items = give(select ? node.iterable.lhs : node.iterable);
        this.spend(ITEM * shallow(items.value));
        return { ...node, iterable: select ? { ...node.iterable, lhs: items } : items };
      }
      case 'CallExpression':
        this.spend(CALL);
        return node;
      case 'Macro': case 'CallStatement':
        this.spend(this.templateLength);
        return node;
      default:
        return node;
    }
  }

  /** Before a filter or method makes more of its operand than there was. */
  private checkGrowth(name: string, operand: Value, args: Value[]): void {
    const longest = Math.max(1, ...args.map(arg => typeof arg.value === 'number' ? Math.abs(arg.value) : this.size(arg)));
    if (['replace', 'indent', 'join', 'tojson', 'center', 'split'].includes(name)) this.sizeWithin(longest * (1 + this.size(operand)));
  }

  /** A method of a text or object that pays for each call. */
  private guardMethod(method: Value, object: Value, name: string): Value {
    const call = method.value;
    const guarded = (args: Value[], scope: Environment): Value => {
      this.spend(object.type === 'StringValue' ? 2 * shallow(object) : 64 * shallow(object));
      this.checkGrowth(name, object, args);
      return call(args, scope);
    };
    return Object.assign(Object.create(Object.getPrototypeOf(method)), method, { value: guarded });
  }

  /** Lists and objects pay when they are written out, wherever that happens. */
  private guardText(value: Value): void {
    if (typeof value.value !== 'object' || value.value === null || Object.hasOwn(value, 'toString')) return;
    const write = value.toString.bind(value);
    value.toString = () => {
      this.spend(this.size(value));
      return write();
    };
  }

  /** Characters of a value written out. */
  private size(value: Value): number {
    let sum = 0;
    const add = (one: Value | undefined) => {
      const inner: unknown = one?.value;
      sum += typeof inner === 'string' ? inner.length : 16;
      if (sum > MAX_SIZE) throw new TemplateFault(`makes a text of more than ${MAX_SIZE} characters`);
      if (Array.isArray(inner)) inner.forEach(add);
      else if (inner instanceof Map) for (const [key, item] of inner) { sum += String(key).length; add(item); }
    };
    add(value);
    return sum;
  }

  private sizeWithin(size: number): void {
    if (size > MAX_SIZE) throw new TemplateFault(`makes a text of more than ${MAX_SIZE} characters`);
  }

  private itemsWithin(count: number): number {
    if (!(count <= MAX_ITEMS)) throw new TemplateFault(`makes a list of more than ${MAX_ITEMS} items`);
    return count;
  }

  private spend(work: number): void {
    this.left -= work;
    if (this.left < 0) throw new TemplateFault('computes too much');
  }
}

/** Characters, or items. */
function shallow({ value }: Value): number {
  return typeof value === 'string' || Array.isArray(value) ? value.length : value instanceof Map ? value.size : 1;
}

/** What templates ask for, in English wherever they run. */
function formatDate(date: Date, format: string): string {
  const part = (options: Intl.DateTimeFormatOptions) => date.toLocaleDateString('en-US', options);
  const two = (value: number) => String(value).padStart(2, '0');
  const parts: Record<string, () => string> = {
    Y: () => String(date.getFullYear()), m: () => two(date.getMonth() + 1), d: () => two(date.getDate()), H: () => two(date.getHours()), M: () => two(date.getMinutes()),
    S: () => two(date.getSeconds()), b: () => part({ month: 'short' }), B: () => part({ month: 'long' }), a: () => part({ weekday: 'short' }), A: () => part({ weekday: 'long' }), '%': () => '%',
  };
  return format.replace(/%([a-zA-Z%])/g, (all, letter: string) => parts[letter]?.() ?? all);
}
