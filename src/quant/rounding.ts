/** A matrix to levels: Gram matrices in, codes and parameters out. The formulas are in docs/quantisation.md and cpp/quant/. */
import { Levels, sizeOfRounding, writeRounding, type RoundingFields } from '../generated/layout.js';
import type { Bare, Crew } from './crew.js';
import { multiply, newMatrix, Store, tasksOf, values, type Matrix } from './matrix.js';

/** How a matrix is rounded. */
export interface Format {
  levels: keyof typeof Levels;
  planes: number;
  groupSize: number;
  /** Parameters of 6 bits. */
  sixBit: boolean;
}

/** What is done to find the levels and codes; see Rounding in cpp/layout.json. */
export interface Recipe {
  /** λ, as a share of the mean diagonal of H. */
  damping: number;
  /** α = ρ: how much of what the layers before got wrong this layer's target makes up for. */
  correction: number;
  /** Groups and columns in the order of what they carry. */
  ordered: boolean;
  search: Pick<RoundingFields, 'starts' | 'rounds' | 'weighted' | 'fixedCodes' | 'refits' | 'passes' | 'joint' | 'sweeps'>;
}

const plain = { starts: 4, rounds: 15, weighted: 1, fixedCodes: 0, refits: 0, passes: 0, joint: 0, sweeps: 0 };
export const recipes = {
  best: { damping: 0.03, correction: 0.75, ordered: true, search: { ...plain, refits: 4, passes: 2, joint: 1, sweeps: 4 } },
  gptq: { damping: 0.05, correction: 0, ordered: false, search: plain },
  rtn: { damping: 0, correction: 0, ordered: false, search: { ...plain, starts: 1, rounds: 1, weighted: 0, sweeps: 1 } },
  elutq: { damping: 0.01, correction: 0, ordered: false, search: { ...plain, fixedCodes: 1 } },
} satisfies Record<string, Recipe>;

/** A matrix that has been rounded; rows and columns in their own order. */
export interface Rounded {
  codes: Uint8Array;
  /** [rows][groups][parameters]: middle, then step or steps. */
  params: Float32Array;
  /** [rows][parameters]: what parameters of 6 bits are multiples of. */
  rowScales: Float32Array;
  /** [rows]: the diagonal of E H Eᵀ, E against the matrix's target. */
  errors: Float32Array;
}

/** Parameters of a group. */
export const paramsOf = ({ levels, planes }: Format): number => levels === 'uniform' ? 2 : planes + 1;

/** H of one input of a layer, damped, in processing order, with its factor; without them: the identity. Lives in memory taken from the crew. */
export interface Metric { orderAt: number; inverseAt: number; h: Matrix; v: Matrix }

/** Without data: columns in their own order. */
export function noMetric(crew: Crew, n: number): Metric {
  const orderAt = crew.take(4 * n), none = { at: 0, rows: 0, cols: 0 };
  crew.words(orderAt, n).set(Uint32Array.from({ length: n }, (_, i) => i));
  return { orderAt, inverseAt: orderAt, h: none, v: none };
}

/**
 * @param gram X̂ᵀX̂, whole
 * @param tokens rows that went into it
 */
export async function prepareMetric(crew: Crew, gram: Matrix, tokens: number, groupSize: number, { damping, ordered }: Recipe): Promise<Metric> {
  const n = gram.rows, all = values(crew, gram);
  const diagonal = Float64Array.from({ length: n }, (_, i) => all[i * (n + 1)]! / tokens);
  const mean = diagonal.reduce((a, b) => a + b, 0) / n;
  // Without any input every weight matters alike.
  const lambda = mean > 0 ? damping * mean : 1;
  const order = processingOrder(diagonal, groupSize, ordered);
  const orderAt = crew.take(4 * n), inverseAt = crew.take(4 * n);
  crew.words(orderAt, n).set(order);
  const inverse = crew.words(inverseAt, n);
  order.forEach((column, i) => { inverse[column] = i; });
  const h = newMatrix(crew, n, n), v = newMatrix(crew, n, n);
  for (const one of [h, v]) await crew.run('arrange', [one.at, gram.at, n, n, orderAt, orderAt, 1 / tokens, lambda], tasksOf(n));
  await factor(crew, v);
  return { orderAt, inverseAt, h, v };
}

function processingOrder(diagonal: Float64Array, groupSize: number, ordered: boolean): Uint32Array {
  const n = diagonal.length, order = Uint32Array.from({ length: n }, (_, i) => i);
  if (!ordered) return order;
  const groups = Array.from({ length: Math.ceil(n / groupSize) }, (_, g) => order.subarray(g * groupSize, (g + 1) * groupSize).slice());
  const weight = groups.map(group => group.reduce((sum, i) => sum + diagonal[i]!, 0));
  for (const group of groups) group.sort((a, b) => diagonal[b]! - diagonal[a]! || a - b);
  return Uint32Array.from(groups.map((_, g) => g).sort((a, b) => weight[b]! - weight[a]! || a - b).flatMap(g => [...groups[g]!]));
}

/** In place: H becomes V, upper triangular, H = V Vᵀ; what lies below the diagonal means nothing. */
async function factor(crew: Crew, h: Matrix): Promise<void> {
  const n = h.rows, block = crew.call('factorBlock'), failed = crew.take(4);
  crew.words(failed, 1)[0] = 0;
  for (let begin = (Math.ceil(n / block) - 1) * block; begin >= 0; begin -= block) {
    const end = Math.min(n, begin + block), width = end - begin;
    await crew.run('factorOwn', [h.at, n, begin, end, failed], 1);
    if (begin === 0) break;
    await crew.run('factorAbove', [h.at, n, begin, end], tasksOf(begin));
    const panel = h.at + 4 * begin;
    await crew.run('multiply', [h.at, n, begin, begin, width, panel, n, 1, panel, 1, n, Store.subtract, 1], Math.ceil(begin / 192) * Math.ceil(begin / 256));
  }
  if (crew.words(failed, 1)[0]) throw new Error('a Gram matrix is not positive definite');
}

/** What the calibration says of a matrix besides H. `cross`: (X − X̂)ᵀX̂; `residual`: of what the output should be and is, with X̂. */
export type Correction = { cross: Matrix } | { residual: Matrix } | null;

/**
 * Rounds `weights` [rows][cols]; they become what the codes mean.
 */
export async function roundMatrix(crew: Crew, weights: Matrix, metric: Metric, correction: Correction, tokens: number, format: Format, recipe: Recipe): Promise<Rounded> {
  const { rows, cols } = weights, groups = Math.ceil(cols / format.groupSize), params = paramsOf(format);
  return crew.within(async () => {
    const target = newMatrix(crew, rows, cols);
    values(crew, target).set(values(crew, weights));
    if (correction && recipe.correction > 0) {
      const natural = newMatrix(crew, rows, cols), moved = newMatrix(crew, rows, cols);
      const source = 'residual' in correction ? correction.residual : natural;
      if ('cross' in correction) await multiply(crew, natural, weights, correction.cross);
      await crew.run('arrange', [moved.at, source.at, rows, cols, 0, metric.orderAt, recipe.correction / tokens, 0], tasksOf(rows));
      await crew.run('solve', [moved.at, rows, metric.v.at, cols], Math.ceil(rows / 64));
      await crew.run('arrange', [natural.at, moved.at, rows, cols, 0, metric.inverseAt, -1, 0], tasksOf(rows));
      await crew.run('difference', [target.at, target.at, natural.at, rows, cols], tasksOf(rows));
    }
    const at = { codes: crew.take(rows * cols), params: crew.take(4 * rows * groups * params), rowScales: crew.take(4 * rows * params), error: crew.take(4 * rows) };
    const job = crew.take(sizeOfRounding);
    writeRounding(crew.view, job, roundingFields(format, recipe, {
      rows, cols, target: target.at, h: metric.h.at, v: metric.v.at, order: metric.orderAt, weights: weights.at, ...at,
    }));
    await crew.run('roundRows', [job], Math.ceil(rows / 64));
    return {
      codes: crew.bytes(at.codes, rows * cols).slice(),
      params: crew.floats(at.params, rows * groups * params).slice(),
      rowScales: crew.floats(at.rowScales, rows * params).slice(),
      errors: crew.floats(at.error, rows).slice(),
    };
  });
}

type Places = 'rows' | 'cols' | 'target' | 'h' | 'v' | 'order' | 'codes' | 'params' | 'rowScales' | 'weights' | 'error';
function roundingFields({ levels, planes, groupSize, sixBit }: Format, { search }: Recipe, places: Pick<RoundingFields, Places>): RoundingFields {
  return { ...places, ...search, groupSize, levels: Levels[levels], planes, sixBit: sixBit ? 1 : 0 };
}

/** Scratch that a thread needs for rounding a matrix of `cols` columns. */
export function roundingScratch({ functions, memory, free }: Bare, cols: number, format: Format, recipe: Recipe): number {
  const none = { rows: 0, target: 0, h: 0, v: 0, order: 0, codes: 0, params: 0, rowScales: 0, weights: 0, error: 0 };
  writeRounding(new DataView(memory.buffer), free, roundingFields(format, recipe, { ...none, cols }));
  return functions.roundingBytes!(free) >>> 0;
}
