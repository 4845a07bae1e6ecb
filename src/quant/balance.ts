/**
 * Column scales without data, after SINQ (arXiv 2509.22944): a matrix with a few large columns is hard to round in groups of
 * columns, so its columns are divided by t, W' = W diag(1 / t), and its input is multiplied by t. Nobody has to do that while
 * the model runs: the norm before {q, k, v} and {gate, up} takes t in, and so do the rows of v and of up, of which the inputs of
 * o and down are multiples. A row's scale never matters to rounding.
 *
 * t is what makes the columns alike, by the root of the norm's weight: inputs that the norm makes large count for more.
 */
import type { ByteSource, ModelConfig } from '../formats/types.js';
import type { SourceMatrix, SourceModel } from '../formats/source.js';
import { halves } from './forward.js';
import { WeightReader } from './weights.js';

const ROUNDS = 8;
/** Weights of a matrix that are looked at, at most: every so many rows. */
const LOOKED_AT = 2 ** 20;
/** How far a scale may be from the geometric middle. */
const LIMIT = 16;

/** The same function in other numbers. @param onProgress called with the matrices looked at and all there are */
export async function balanced(source: SourceModel, onProgress?: (done: number, total: number) => void, signal?: AbortSignal): Promise<SourceModel> {
  const weights = await WeightReader.create(source), vectors = new Map(source.vectors);
  const byColumn = new Map<string, Float32Array>(), byRow = new Map<string, Float32Array>(), all = halves(source.config);
  const scaled = (name: string, scales: Float32Array) => vectors.set(name, vectors.get(name)!.map((value, i) => value * scales[i]!));
  for (const [i, { kind, norm, inputs, subNorm, output, inner }] of all.entries()) {
    signal?.throwIfAborted();
    const before = byNorm(await columnScales(weights, inputs, source.config.dim, j => j), vectors.get(norm)!);
    for (const name of inputs) byColumn.set(name, before);
    scaled(norm, before);

    // Query heads that share a value head share its rows.
    const ownerOf = kind === 'attn' && !vectors.has(subNorm) ? valueRow(source.config) : (j: number) => j;
    const between = await columnScales(weights, [output], inner, ownerOf);
    byColumn.set(output, Float32Array.from({ length: inner }, (_, j) => between[ownerOf(j)]!));
    if (vectors.has(subNorm)) {
      scaled(subNorm, between);
    } else {
      const maker = inputs.at(-1)!;
      byRow.set(maker, between);
      if (vectors.has(`${maker}.bias`)) scaled(`${maker}.bias`, between);
    }
    onProgress?.(i + 1, all.length);
  }
  const matrices = new Map([...source.matrices].map(([name, matrix]) => [name, byColumn.has(name) ? asFloats(weights, name, matrix, byColumn.get(name)!, byRow.get(name)) : matrix]));
  return { ...source, matrices, vectors, provenance: { ...source.provenance, columnScales: 'sinq' }, close: () => source.close() };
}

/** Divided by the root of the norm's weight. */
function byNorm(scales: Float32Array, norm: Float32Array): Float32Array {
  const mean = norm.reduce((sum, value) => sum + Math.abs(value), 0) / norm.length;
  return scales.map((scale, j) => scale / (norm[j] === 0 ? 1 : Math.sqrt(within(Math.abs(norm[j]!) / mean))));
}
const within = (scale: number) => Math.min(LIMIT, Math.max(1 / LIMIT, scale));

/** The row of v that column j of o is multiplied with. */
const valueRow = ({ nHeads, nHeadsKv, headDim }: ModelConfig) => (j: number): number => Math.floor(j / headDim / (nHeads / nHeadsKv)) * headDim + j % headDim;

/**
 * Root mean squares of the columns when all rows have the same, by turns (Sinkhorn and Knopp); over all matrices that share an
 * input. Columns of one owner share a scale.
 */
async function columnScales(weights: WeightReader, names: readonly string[], cols: number, ownerOf: (column: number) => number): Promise<Float32Array> {
  const owners = Uint32Array.from({ length: cols }, (_, j) => ownerOf(j)), count = owners.reduce((a, b) => Math.max(a, b), 0) + 1;
  let inverse = new Float64Array(cols).fill(1), scales = new Float64Array(count);
  const held = (await Promise.all(names.map(name => sampled(weights, name, cols)))).flat();
  for (let round = 0; round < ROUNDS; round++) {
    const squares = new Float64Array(cols);
    for (const row of held) {
      let sum = 0;
      for (let j = 0; j < cols; j++) {
        const x = row[j]! * inverse[j]!;
        sum += x * x;
      }
      if (sum === 0) continue;
      const share = 1 / sum;
      for (let j = 0; j < cols; j++) squares[j]! += row[j]! * row[j]! * share;
    }
    scales = new Float64Array(count);
    squares.forEach((square, j) => { scales[owners[j]!]! += square; });
    const mean = scales.reduce((a, b) => a + b, 0) / count;
    // A dead column stays as it is.
    scales = scales.map(square => square > 0 ? within(Math.sqrt(square / mean)) : 1);
    inverse = Float64Array.from(owners, owner => 1 / scales[owner]!);
  }
  return Float32Array.from(scales);
}

async function sampled(weights: WeightReader, name: string, cols: number): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for await (const { first, count, total, values } of weights.runs(name)) {
    const step = Math.ceil(total * cols / LOOKED_AT);
    for (let r = 0; r < count; r++) if ((first + r) % step === 0) rows.push(values.slice(r * cols, (r + 1) * cols));
  }
  return rows;
}

/** Rows as f32, decoded and scaled when they are read. */
function asFloats(weights: WeightReader, name: string, { rows, cols, name: stored }: SourceMatrix, byColumn: Float32Array, byRow: Float32Array | undefined): SourceMatrix {
  const length = 4 * cols, inverse = byColumn.map(scale => 1 / scale);
  const file: ByteSource = {
    name: stored, size: rows * length,
    async read(target, offset) {
      const first = offset / length, values = await weights.rows(name, first, target.length / length);
      for (let at = 0, r = first; at < values.length; r++) {
        const factor = byRow?.[r] ?? 1;
        for (let j = 0; j < cols; j++, at++) values[at]! *= factor * inverse[j]!;
      }
      target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    },
    async close() {},
  };
  return { name: stored, rows, cols, encoding: 'f32', codes: { file, length, offset: row => row * length } };
}
