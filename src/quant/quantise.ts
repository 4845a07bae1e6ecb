/**
 * Layer by layer: two streams of activations, one of the model as it is and one of the model as far as it is quantised.
 * Every matrix is rounded so that its output on the second stream comes near to what the first one has.
 */
import { linearShapes } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import { Activations, type Chunk } from './activations.js';
import { Crew } from './crew.js';
import { Forward, halves, type Half } from './forward.js';
import { mirror, multiply, newMatrix, Store, subtract, t, values, type Matrix } from './matrix.js';
import { prepareMetric, roundingScratch, roundMatrix, type Correction, type Format, type Recipe, type Rounded } from './rounding.js';
import { WeightReader } from './weights.js';

/** Tokens that go through a layer at once. */
const CHUNK_TOKENS = 2048;

export interface QuantiseOptions {
  recipe: Recipe;
  formatOf(name: string): Format;
  /** Token ids, each sequence from its own start. */
  sequences: readonly (readonly number[])[];
  threads: number;
  /** Where activations may be put while it works. */
  spill?: string;
  signal?: AbortSignal;
  /** Called with every matrix that is done; `values` [rows][cols] is what its codes mean, to be copied before the promise settles. */
  onMatrix(name: string, rounded: Rounded, format: Format, values: Float32Array): Promise<void>;
  onProgress?(done: number, total: number): void;
}

export async function quantise(source: SourceModel, options: QuantiseOptions): Promise<void> {
  const { config } = source, { sequences, recipe } = options;
  const longest = Math.max(...sequences.map(ids => ids.length));
  const formats = linearShapes(config).filter(({ name }) => name.startsWith('layers.')).map(({ name, cols }) => ({ cols, format: options.formatOf(name) }));
  const crew = await Crew.start(options.threads, bare => Math.max(bare.functions.attentionBytes!(longest),
    ...formats.map(({ cols, format }) => roundingScratch(bare, cols, format, recipe))));
  const onAbort = () => void crew.close(options.signal!.reason);
  options.signal?.addEventListener('abort', onAbort);
  let activations: Activations | undefined;
  try {
    options.signal?.throwIfAborted();
    const chunks = [...intoChunks(sequences)], tokens = chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
    const widest = Math.max(config.nHeads * config.headDim, config.hiddenDim);
    activations = await Activations.create(crew, tokens, { exact: config.dim, rounded: config.dim, inner: widest }, options.spill);
    const forward = await Forward.create(crew, config, source.norms, longest);
    const weights = await WeightReader.create(source);
    await embed(crew, weights, activations, chunks, config.dim);
    for (let layer = 0; layer < config.nLayers; layer++) {
      for (const [i, half] of halves(config, layer).entries()) {
        await crew.within(() => quantiseHalf({ crew, forward, weights, activations: activations!, chunks, tokens, source, options }, half));
        options.onProgress?.(2 * layer + i + 1, 2 * config.nLayers);
      }
    }
  } finally {
    options.signal?.removeEventListener('abort', onAbort);
    await activations?.close();
    await crew.close();
  }
}

function* intoChunks(sequences: readonly (readonly number[])[]): Generator<Chunk> {
  let first = 0, tokens = 0, held: (readonly number[])[] = [];
  for (const ids of sequences) {
    if (tokens > 0 && tokens + ids.length > CHUNK_TOKENS) {
      yield { first, tokens, sequences: held };
      first += tokens;
      tokens = 0;
      held = [];
    }
    held.push(ids);
    tokens += ids.length;
  }
  if (tokens > 0) yield { first, tokens, sequences: held };
}

/** Both streams begin with the embedding's rows. */
async function embed(crew: Crew, weights: WeightReader, activations: Activations, chunks: readonly Chunk[], dim: number): Promise<void> {
  const rows = new Map<number, Float32Array>(), wanted = new Set(chunks.flatMap(({ sequences }) => sequences.flat()));
  for await (const { first, count, values: run } of weights.runs('embedding')) {
    for (let i = 0; i < count; i++) if (wanted.has(first + i)) rows.set(first + i, run.slice(i * dim, (i + 1) * dim));
  }
  for (const chunk of chunks) {
    await crew.within(async () => {
      const x = newMatrix(crew, chunk.tokens, dim), all = values(crew, x);
      chunk.sequences.flat().forEach((id, i) => all.set(rows.get(id)!, i * dim));
      for (const name of ['exact', 'rounded']) await activations.save(name, chunk, x);
    });
  }
}

interface State {
  crew: Crew; forward: Forward; weights: WeightReader; activations: Activations;
  chunks: readonly Chunk[]; tokens: number; source: SourceModel; options: QuantiseOptions;
}

async function quantiseHalf(state: State, half: Half): Promise<void> {
  const { crew, forward, activations, chunks, source } = state, { dim } = source.config;
  const exact = await Promise.all(half.inputs.map(name => read(state, name)));
  const rounded = exact.map(one => copy(crew, one));
  await crew.within(async () => {
    const gram = zeros(crew, dim, dim), cross = zeros(crew, dim, dim);
    for (const chunk of chunks) {
      await crew.within(async () => {
        const n = await normalised(state, half, chunk, 'exact'), seen = await normalised(state, half, chunk, 'rounded');
        await multiply(crew, gram, t(seen), seen, Store.add, true);
        await subtract(crew, n, n, seen);
        await multiply(crew, cross, t(n), seen, Store.add);
      });
    }
    await roundAll(state, gram, { cross }, half.inputs, rounded);
  });

  const output = await read(state, half.output);
  await crew.within(async () => {
    const gram = zeros(crew, half.inner, half.inner), residual = zeros(crew, dim, half.inner);
    for (const chunk of chunks) {
      await crew.within(async () => {
        const x = newMatrix(crew, chunk.tokens, dim), inner = newMatrix(crew, chunk.tokens, half.inner), missing = newMatrix(crew, chunk.tokens, dim);
        await forward.inner(half, inner, await normalised(state, half, chunk, 'exact'), exact, chunk);
        await activations.load('exact', chunk, x);
        await multiply(crew, x, inner, t(output), Store.add);
        await activations.save('exact', chunk, x);
        // What the rounded stream lacks if this matrix stays as it is.
        await forward.inner(half, inner, await normalised(state, half, chunk, 'rounded'), rounded, chunk);
        await activations.save('inner', chunk, inner);
        await multiply(crew, missing, inner, t(output));
        await subtract(crew, missing, x, missing);
        await activations.load('rounded', chunk, x);
        await subtract(crew, missing, missing, x);
        await multiply(crew, gram, t(inner), inner, Store.add, true);
        await multiply(crew, residual, t(missing), inner, Store.add);
      });
    }
    await roundAll(state, gram, { residual }, [half.output], [output]);
  });

  for (const chunk of chunks) {
    await crew.within(async () => {
      const x = newMatrix(crew, chunk.tokens, dim), inner = newMatrix(crew, chunk.tokens, half.inner);
      await activations.load('rounded', chunk, x);
      await activations.load('inner', chunk, inner);
      await multiply(crew, x, inner, t(output), Store.add);
      await activations.save('rounded', chunk, x);
    });
  }
}

/** Rounds matrices that read one input; they become what their codes mean. */
async function roundAll({ crew, tokens, options: { recipe, formatOf, onMatrix } }: State, gram: Matrix, correction: Correction, names: readonly string[], matrices: readonly Matrix[]): Promise<void> {
  await mirror(crew, gram);
  const sizes = new Set(names.map(name => formatOf(name).groupSize));
  for (const groupSize of sizes) {
    await crew.within(async () => {
      const metric = await prepareMetric(crew, gram, tokens, groupSize, recipe);
      for (const [i, name] of names.entries()) {
        const format = formatOf(name);
        if (format.groupSize !== groupSize) continue;
        const result = await roundMatrix(crew, matrices[i]!, metric, correction, tokens, format, recipe);
        await onMatrix(name, result, format, values(crew, matrices[i]!));
      }
    });
  }
}

async function normalised({ crew, forward, activations, source }: State, { norm }: Half, chunk: Chunk, stream: string): Promise<Matrix> {
  const x = newMatrix(crew, chunk.tokens, source.config.dim), n = newMatrix(crew, x.rows, x.cols);
  await activations.load(stream, chunk, x);
  await forward.norm(n, x, norm);
  return n;
}

async function read({ crew, weights, source }: State, name: string): Promise<Matrix> {
  const { rows, cols } = source.matrices.get(name)!, matrix = newMatrix(crew, rows, cols);
  await weights.read(name, values(crew, matrix));
  return matrix;
}

function copy(crew: Crew, from: Matrix): Matrix {
  const to = newMatrix(crew, from.rows, from.cols);
  values(crew, to).set(values(crew, from));
  return to;
}

function zeros(crew: Crew, rows: number, cols: number): Matrix {
  const matrix = newMatrix(crew, rows, cols);
  values(crew, matrix).fill(0);
  return matrix;
}
