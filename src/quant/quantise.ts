/**
 * Layer by layer: two streams of activations, one of the model as it is and one of the model as far as it is quantised.
 * Every matrix is rounded so that its output on the second stream comes near to what the first one has.
 */
import { linearShapes } from '../formats/packed.js';
import type { SourceModel } from '../formats/source.js';
import { Activations, type Chunk } from './activations.js';
import { allocate } from './allocate.js';
import { Crew } from './crew.js';
import { Forward, halves, type Half } from './forward.js';
import { copied, mirror, multiply, newMatrix, Store, subtract, t, values, zeros, type Matrix } from './matrix.js';
import { noMetric, prepareMetric, roundingScratch, roundMatrix, type Correction, type Format, type Recipe, type Rounded } from './rounding.js';
import { samplesOf, sensitivities } from './sensitivity.js';
import { WeightReader } from './weights.js';

/** Tokens that go through a layer at once. */
const CHUNK_TOKENS = 2048;

export interface QuantiseOptions {
  recipe: Recipe;
  format: Format;
  /** Mean number of planes, where they may differ from matrix to matrix; `format.planes` is then not looked at. */
  meanPlanes?: number;
  /** Token ids, each sequence from its own start. */
  sequences: readonly (readonly number[])[];
  threads: number;
  /** Where activations may be put while it works. */
  spill?: string;
  signal?: AbortSignal;
  /** Layers that are done already, and where to go on from. */
  resumed?: { layers: number; formats: ReadonlyMap<string, Format>; restore(activations: Activations, chunks: readonly Chunk[]): Promise<void> };
  /** Called once, with the format of every matrix of the layers. */
  onFormats?(formats: ReadonlyMap<string, Format>): void;
  /** Called with every matrix that is done; `values` [rows][cols] is what its codes mean, to be copied before the promise settles. */
  onMatrix(name: string, rounded: Rounded, format: Format, values: Float32Array): Promise<void>;
  /** Called when a layer's matrices are done. */
  onLayer?(layers: number, activations: Activations, chunks: readonly Chunk[]): Promise<void>;
  onProgress?(phase: 'measuring' | 'quantising', done: number, total: number): void;
}

export async function quantise(source: SourceModel, options: QuantiseOptions): Promise<void> {
  const { config } = source, { sequences, recipe, signal } = options;
  const longest = Math.max(1, ...sequences.map(ids => ids.length)), cols = linearShapes(config).map(shape => shape.cols);
  const crew = await Crew.start(options.threads, bare => Math.max(bare.functions.attentionBytes!(longest),
    ...cols.map(n => roundingScratch(bare, n, options.format, recipe))));
  const onAbort = () => void crew.close(signal!.reason);
  signal?.addEventListener('abort', onAbort);
  let activations: Activations | undefined;
  try {
    signal?.throwIfAborted();
    if (sequences.length === 0) return await roundAlone(crew, source, options);
    const chunks = [...intoChunks(sequences)], tokens = chunks.reduce((sum, chunk) => sum + chunk.tokens, 0);
    const forward = await Forward.create(crew, source, longest), weights = await WeightReader.create(source);
    const embed = await embedding(crew, weights, sequences, config.dim);
    const { resumed } = options, formats = resumed?.formats ?? await chooseFormats(source, options, async onProgress => {
      const samples = samplesOf(sequences), sum = new Map<string, number>();
      for (const [i, sample] of samples.entries()) {
        const costs = await crew.within(() => sensitivities(crew, source, forward, weights, sample, embed(sample),
          (done, total) => onProgress(i * total + done, samples.length * total)));
        for (const [name, cost] of costs) sum.set(name, (sum.get(name) ?? 0) + cost);
      }
      return sum;
    });
    options.onFormats?.(formats);

    const widest = Math.max(config.nHeads * config.headDim, config.hiddenDim);
    // The stream of the model as it is serves to correct targets only.
    const isCorrected = recipe.correction > 0, streams = isCorrected ? ['exact', 'rounded'] : ['rounded'];
    activations = await Activations.create(crew, tokens, streams, config.dim, widest, options.spill);
    if (resumed) await resumed.restore(activations, chunks);
    else await begin(crew, activations, streams, chunks, embed);
    const all = halves(config);
    for (const [i, half] of [...all.entries()].slice(2 * (resumed?.layers ?? 0))) {
      await crew.within(() => quantiseHalf({ crew, forward, weights, activations: activations!, chunks, tokens, isCorrected, source, formats, options }, half));
      if (i % 2 === 1) await options.onLayer?.((i + 1) / 2, activations, chunks);
      options.onProgress?.('quantising', i + 1, all.length);
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await activations?.close();
    await crew.close();
  }
}

/** Without data: matrix by matrix. */
async function roundAlone(crew: Crew, source: SourceModel, { format, recipe, onFormats, onMatrix, onProgress }: QuantiseOptions): Promise<void> {
  const weights = await WeightReader.create(source), matrices = linearShapes(source.config).filter(({ name }) => name.startsWith('layers.'));
  onFormats?.(new Map(matrices.map(({ name }) => [name, format])));
  for (const [i, { name, rows, cols }] of matrices.entries()) {
    await crew.within(async () => {
      const matrix = newMatrix(crew, rows, cols);
      await weights.read(name, values(crew, matrix));
      await onMatrix(name, await roundMatrix(crew, matrix, noMetric(crew, cols), null, 0, format, recipe), format, values(crew, matrix));
    });
    onProgress?.('quantising', i + 1, matrices.length);
  }
}

/** The streams start from the embeddings. */
async function begin(crew: Crew, activations: Activations, streams: readonly string[], chunks: readonly Chunk[], embed: (chunk: Chunk) => Matrix): Promise<void> {
  for (const chunk of chunks) {
    await crew.within(async () => {
      const x = embed(chunk);
      for (const name of streams) await activations.save(name, chunk, x);
    });
  }
}

async function chooseFormats(source: SourceModel, { format, meanPlanes, onProgress }: QuantiseOptions,
  measure: (onProgress: (done: number, total: number) => void) => Promise<Map<string, number>>): Promise<Map<string, Format>> {
  const matrices = linearShapes(source.config).filter(({ name }) => name.startsWith('layers.'));
  if (meanPlanes === undefined) return new Map(matrices.map(({ name }) => [name, format]));
  const costs = await measure((done, total) => onProgress?.('measuring', done, total));
  const planes = allocate(matrices.map(({ name, rows, cols }) => ({ name, weights: rows * cols, cost: costs.get(name)! })), meanPlanes);
  return new Map(matrices.map(({ name }) => [name, { ...format, planes: planes.get(name)! }]));
}

/** Sequences in order, as many at once as hold about CHUNK_TOKENS. */
function* intoChunks(sequences: readonly (readonly number[])[]): Generator<Chunk> {
  let first = 0, tokens = 0, held: (readonly number[])[] = [];
  for (const ids of sequences) {
    if (tokens > 0 && tokens + ids.length > CHUNK_TOKENS) {
      yield { first, tokens, sequences: held };
      [first, tokens, held] = [first + tokens, 0, []];
    }
    held.push(ids);
    tokens += ids.length;
  }
  yield { first, tokens, sequences: held };
}

/** What the residual stream begins with, for tokens that the sequences hold. */
async function embedding(crew: Crew, weights: WeightReader, sequences: readonly (readonly number[])[], dim: number): Promise<(chunk: Chunk) => Matrix> {
  const rows = new Map<number, Float32Array>(), wanted = new Set(sequences.flat());
  for await (const { first, count, values: run } of weights.runs('embedding')) {
    for (let i = 0; i < count; i++) if (wanted.has(first + i)) rows.set(first + i, run.slice(i * dim, (i + 1) * dim));
  }
  return ({ tokens, sequences: some }) => {
    const x = newMatrix(crew, tokens, dim), all = values(crew, x);
    some.flat().forEach((id, i) => all.set(rows.get(id)!, i * dim));
    return x;
  };
}

interface State {
  crew: Crew; forward: Forward; weights: WeightReader; activations: Activations;
  chunks: readonly Chunk[]; tokens: number; isCorrected: boolean; source: SourceModel; formats: ReadonlyMap<string, Format>; options: QuantiseOptions;
}

async function quantiseHalf(state: State, half: Half): Promise<void> {
  const { crew, forward, activations, chunks, source, isCorrected } = state, { dim } = source.config;
  const exact: Matrix[] = [];
  for (const name of half.inputs) exact.push(await read(state, name));
  const rounded = exact.map(one => copied(crew, one));
  await crew.within(async () => {
    const gram = zeros(crew, dim, dim), cross = zeros(crew, dim, dim);
    for (const chunk of chunks) {
      await crew.within(async () => {
        const seen = await normalised(state, half, chunk, 'rounded');
        await multiply(crew, gram, t(seen), seen, Store.add, true);
        if (!isCorrected) return;
        const n = await normalised(state, half, chunk, 'exact');
        await subtract(crew, n, n, seen);
        await multiply(crew, cross, t(n), seen, Store.add);
      });
    }
    await mirror(crew, gram);
    await roundAll(state, gram, isCorrected ? { cross } : null, half.inputs, rounded);
  });

  const output = await read(state, half.output);
  await crew.within(async () => {
    const gram = zeros(crew, half.inner, half.inner), residual = zeros(crew, dim, half.inner);
    for (const chunk of chunks) {
      await crew.within(async () => {
        const x = newMatrix(crew, chunk.tokens, dim), inner = newMatrix(crew, chunk.tokens, half.inner);
        if (isCorrected) {
          await forward.inner(half, inner, await normalised(state, half, chunk, 'exact'), exact, chunk);
          await activations.load('exact', chunk, x);
          await forward.output(half, x, inner, output);
          await activations.save('exact', chunk, x);
        }
        await forward.inner(half, inner, await normalised(state, half, chunk, 'rounded'), rounded, chunk);
        await activations.save('inner', chunk, inner);
        await multiply(crew, gram, t(inner), inner, Store.add, true);
        if (!isCorrected) return;
        const before = newMatrix(crew, chunk.tokens, dim);
        await activations.load('rounded', chunk, before);
        await forward.bias(before, half.output);
        await subtract(crew, x, x, before);
        await multiply(crew, residual, t(x), inner, Store.add);
      });
    }
    await mirror(crew, gram);
    // What the rounded stream lacks if this matrix stays as it is: without its own share, W X̂.
    if (isCorrected) await multiply(crew, residual, output, gram, Store.subtract);
    await roundAll(state, gram, isCorrected ? { residual } : null, [half.output], [output]);
  });

  for (const chunk of chunks) {
    await crew.within(async () => {
      const x = newMatrix(crew, chunk.tokens, dim), inner = newMatrix(crew, chunk.tokens, half.inner);
      await activations.load('rounded', chunk, x);
      await activations.load('inner', chunk, inner);
      await forward.output(half, x, inner, output);
      await activations.save('rounded', chunk, x);
    });
  }
}

/** Rounds matrices that read one input; they become what their codes mean. */
async function roundAll({ crew, tokens, formats, options: { recipe, onMatrix } }: State, gram: Matrix, correction: Correction, names: readonly string[], matrices: readonly Matrix[]): Promise<void> {
  const sizes = new Set(names.map(name => formats.get(name)!.groupSize));
  for (const groupSize of sizes) {
    await crew.within(async () => {
      const metric = await prepareMetric(crew, gram, tokens, groupSize, recipe);
      for (const [i, name] of names.entries()) {
        const format = formats.get(name)!;
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
