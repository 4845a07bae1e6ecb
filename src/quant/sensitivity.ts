/**
 * What rounding each matrix would cost: half the sum over its rows of E[g²] · E H Eᵀ, where g is the gradient of the
 * cross-entropy at the row's output (the diagonal of the Fisher information) and E the error at 2 bits, found by a quick
 * rounding. One pass forward and one backward over a small part of the calibration tokens.
 */
import type { SourceModel } from '../formats/source.js';
import type { Chunk } from './activations.js';
import type { Crew } from './crew.js';
import { halves, type Forward } from './forward.js';
import { mirror, multiply, newMatrix, Store, t, tasksOf, values, zeros, type Matrix } from './matrix.js';
import { prepareMetric, roundMatrix, recipes, type Format } from './rounding.js';
import type { WeightReader } from './weights.js';

/** Tokens whose gradients are computed at once, at most; their activations stay in memory, all layers of them. */
const SAMPLE_TOKENS = 1024;
/** Tokens of the calibration that such a sample stands for. */
const SAMPLE_EVERY = 32768;
/** Rows of logits at once. */
const LOGITS = 128;

const probe: Format = { levels: 'uniform', planes: 2, groupSize: 64, sixBit: false };
const quick = { ...recipes.gptq, damping: 0.03, search: { ...recipes.gptq.search, starts: 2, rounds: 3 } };

/** One for each SAMPLE_EVERY tokens, evenly from the whole: a few texts are not what all of them need. */
export function samplesOf(sequences: readonly (readonly number[])[]): Chunk[] {
  const count = Math.max(1, Math.floor(sequences.reduce((sum, ids) => sum + ids.length, 0) / SAMPLE_EVERY));
  return Array.from({ length: count }, (_, i) => sampleOf(sequences.slice(Math.floor(i * sequences.length / count))));
}

/** The first sequences, SAMPLE_TOKENS at most; a single longer one is cut. */
function sampleOf(sequences: readonly (readonly number[])[]): Chunk {
  let tokens = 0;
  const taken = sequences.map(ids => ids.slice(0, SAMPLE_TOKENS)).filter(ids => (tokens += ids.length) <= SAMPLE_TOKENS);
  return { first: 0, tokens: taken.reduce((sum, ids) => sum + ids.length, 0), sequences: taken };
}

/** Nats that each matrix of the layers would add at 2 bits. @param x the embeddings of `chunk`'s tokens; lost. */
export async function sensitivities(crew: Crew, source: SourceModel, forward: Forward, weights: WeightReader, chunk: Chunk, x: Matrix,
  onProgress: (done: number, total: number) => void): Promise<Map<string, number>> {
  const { config } = source, all = halves(config), costs = new Map<string, number>();
  const read = async (name: string) => {
    const { rows, cols } = source.matrices.get(name)!, matrix = newMatrix(crew, rows, cols);
    await weights.read(name, values(crew, matrix));
    return matrix;
  };
  const inputsOf = (half: typeof all[number]) => inOrder(half.inputs, read);
  const before: Matrix[] = [];
  let done = 0;
  for (const half of all) {
    const next = newMatrix(crew, x.rows, x.cols);
    values(crew, next).set(values(crew, x));
    before.push(x);
    await crew.within(async () => {
      const n = newMatrix(crew, x.rows, x.cols), inner = newMatrix(crew, x.rows, half.inner);
      await forward.norm(n, x, half.norm);
      await forward.inner(half, inner, n, await inputsOf(half), chunk);
      await forward.output(half, next, inner, await read(half.output));
    });
    x = next;
    onProgress(++done, 3 * all.length);
  }
  const dx = zeros(crew, x.rows, x.cols);
  await crew.within(() => headBack(crew, forward, x, dx, chunk, config.vocabSize, () => read(config.tiedHead ? 'embedding' : 'head')));
  for (let i = all.length - 1; i >= 0; i--) {
    await crew.within(async () => {
      const dOut = newMatrix(crew, dx.rows, dx.cols);
      values(crew, dOut).set(values(crew, dx));
      await forward.back(all[i]!, dx, dOut, before[i]!, await inputsOf(all[i]!), await read(all[i]!.output), chunk, async (name, input, gradient) => {
        await crew.within(async () => costs.set(name, await costOf(crew, await read(name), input, gradient)));
      });
    });
    onProgress(done += 2, 3 * all.length);
  }
  return costs;
}

/** Half of Σ_r E[g_r²] · (E H Eᵀ)_rr, H of the inputs given. */
async function costOf(crew: Crew, w: Matrix, input: Matrix, gradient: Matrix): Promise<number> {
  const gram = newMatrix(crew, w.cols, w.cols), squares = newMatrix(crew, 1, w.rows);
  await multiply(crew, gram, t(input), input, Store.set, true);
  await mirror(crew, gram);
  await crew.run('columnSquares', [squares.at, gradient.at, gradient.rows, gradient.cols], tasksOf(gradient.cols));
  const fisher = values(crew, squares).slice();
  const metric = await prepareMetric(crew, gram, input.rows, probe.groupSize, quick);
  const { errors } = await roundMatrix(crew, w, metric, null, input.rows, probe, quick);
  return errors.reduce((sum, error, r) => sum + 0.5 * error * fisher[r]!, 0) / input.rows;
}

/** dx: the gradient of the cross-entropy at the end of the residual stream x. */
async function headBack(crew: Crew, forward: Forward, x: Matrix, dx: Matrix, { sequences }: Chunk, vocab: number, readHead: () => Promise<Matrix>): Promise<void> {
  const head = await readHead(), n = newMatrix(crew, x.rows, x.cols), dn = newMatrix(crew, x.rows, x.cols);
  await forward.norm(n, x, 'norm');
  // Each token's target is the next one; the last of a sequence has none.
  const targets = Uint32Array.from(sequences.flatMap(ids => ids.map((_, i) => ids[i + 1] ?? 0xffffffff)));
  const at = crew.take(4 * LOGITS), losses = crew.take(8 * LOGITS), space = newMatrix(crew, LOGITS, vocab);
  for (let first = 0; first < x.rows; first += LOGITS) {
    const rows = Math.min(LOGITS, x.rows - first), some = (of: Matrix): Matrix => ({ at: of.at + 4 * first * of.cols, rows, cols: of.cols });
    const logits = { ...space, rows };
    crew.words(at, rows).set(targets.subarray(first, first + rows));
    await multiply(crew, logits, some(n), t(head));
    await crew.run('crossEntropyBack', [logits.at, losses, at, rows, vocab], tasksOf(rows));
    await multiply(crew, some(dn), logits, head);
  }
  await forward.normBack(dx, dn, x, 'norm');
}

async function inOrder<T, U>(items: readonly T[], work: (item: T) => Promise<U>): Promise<U[]> {
  const results: U[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}
