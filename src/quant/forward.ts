/**
 * What a transformer layer does, in f32, for a chunk of sequences, and the same backward. A layer is two halves of one shape:
 * normalise, some matrices, something between, one matrix back to the residual stream.
 */
import type { SourceModel } from '../formats/source.js';
import type { ModelConfig } from '../formats/types.js';
import type { Chunk } from './activations.js';
import type { Crew } from './crew.js';
import { ropeFields } from '../engine/plan.js';
import { ROPE_DIVISORS } from '../formats/packed.js';
import { sizeOfRope, writeRope } from '../generated/layout.js';
import { copied, multiply, newMatrix, Store, t, tasksOf, zeros, type Matrix } from './matrix.js';

/** Half of a layer: its norm, the matrices that read the normalised input, and the one that writes to the residual stream. */
export interface Half {
  kind: 'attn' | 'ffn';
  norm: string;
  inputs: readonly string[];
  subNorm: string;
  output: string;
  /** Length of the vector between. */
  inner: number;
}

export function halves({ nLayers, nHeads, headDim, hiddenDim }: ModelConfig): Half[] {
  return Array.from({ length: nLayers }, (_, layer) => {
    const half = (kind: Half['kind'], inputs: string[], output: string, inner: number): Half => {
      const name = (one: string) => `layers.${layer}.${kind}.${one}`;
      return { kind, norm: name('norm'), inputs: inputs.map(name), subNorm: name('subNorm'), output: name(output), inner };
    };
    return [half('attn', ['q', 'k', 'v'], 'o', nHeads * headDim), half('ffn', ['gate', 'up'], 'down', hiddenDim)];
  }).flat();
}

export class Forward {
  private readonly rope: number;
  /** Addresses of norms, biases and the like. */
  private readonly vectors = new Map<string, number>();

  private constructor(private readonly crew: Crew, private readonly config: ModelConfig, vectors: SourceModel['vectors'], longest: number) {
    for (const [name, vector] of vectors) {
      const at = crew.take(4 * vector.length);
      crew.floats(at, vector.length).set(vector);
      this.vectors.set(name, at);
    }
    this.rope = crew.take(4 * longest * config.headDim);
  }

  /** @param longest sequence, in tokens */
  static async create(crew: Crew, { config, vectors }: SourceModel, longest: number): Promise<Forward> {
    const forward = new Forward(crew, config, vectors, longest), rope = crew.take(sizeOfRope), frequencies = crew.take(4 * config.headDim);
    writeRope(crew.view, rope, ropeFields(config, forward.vectors.get(ROPE_DIVISORS) ?? 0));
    await crew.run('ropeTable', [forward.rope, rope, frequencies, longest, config.headDim], 1);
    return forward;
  }

  async norm(out: Matrix, x: Matrix, name: string): Promise<void> {
    await this.crew.run('norm', [out.at, x.at, this.vectors.get(name)!, x.rows, x.cols, this.config.normEps], tasksOf(x.rows));
  }

  /** What the half's output matrix reads, from the normalised input and the input matrices. */
  async inner(half: Half, out: Matrix, n: Matrix, weights: readonly Matrix[], chunk: Chunk): Promise<void> {
    await this.crew.within(async () => {
      await this.between(half, out, this.vectors.has(half.subNorm) ? newMatrix(this.crew, out.rows, out.cols) : out, (await this.products(half, n, weights, chunk)).final, chunk);
    });
  }

  /** dx += the gradient at the half's input x, from `dOut` at its output matrix's output; both streams of it, past the half and through it. */
  async back(half: Half, dx: Matrix, dOut: Matrix, x: Matrix, inputs: readonly Matrix[], output: Matrix, chunk: Chunk,
    visit: (name: string, input: Matrix, gradient: Matrix) => Promise<void>): Promise<void> {
    const { crew, config: { nHeads, nHeadsKv, headDim, activation } } = this;
    const make = (like: Matrix) => newMatrix(crew, like.rows, like.cols), rows = tasksOf(x.rows);
    await crew.within(async () => {
      const n = make(x), inner = newMatrix(crew, x.rows, half.inner), d = make(inner);
      await this.norm(n, x, half.norm);
      const { raw: before, final: products } = await this.products(half, n, inputs, chunk), raw = this.vectors.has(half.subNorm) ? make(inner) : inner;
      await this.between(half, inner, raw, products, chunk);
      await visit(half.output, inner, dOut);
      await multiply(crew, d, dOut, output);
      if (raw !== inner) {
        const dRaw = zeros(crew, d.rows, d.cols);
        await this.normBack(dRaw, d, raw, half.subNorm);
        d.at = dRaw.at;
      }
      let gradients = products;
      if (half.kind === 'ffn') {
        const [gate, up] = products;
        await crew.run('gatedBack', [gate!.at, up!.at, d.at, d.rows, d.cols, activation === 'silu' ? 1 : 0], rows);
      } else {
        const [q, k, v] = products, { positions, places } = this.places(chunk);
        gradients = products.map(one => zeros(crew, one.rows, one.cols));
        await crew.run('attentionBack', [...gradients.map(one => one.at), d.at, q!.at, k!.at, v!.at, places, nHeads, nHeadsKv, headDim], nHeadsKv * chunk.sequences.length);
        for (const { i, heads, norm } of this.headed(half)) {
          const one = gradients[i]!;
          await crew.run('rotate', [one.at, one.cols, one.rows, this.rope, positions, heads, headDim, 1], rows);
          if (!this.vectors.has(norm)) continue;
          gradients[i] = zeros(crew, one.rows, one.cols);
          await this.normBack(byHead(gradients[i]!, heads), byHead(one, heads), byHead(before[i]!, heads), norm);
        }
      }
      const dn = make(n);
      for (const [i, gradient] of gradients.entries()) {
        await visit(half.inputs[i]!, n, gradient);
        await multiply(crew, dn, gradient, inputs[i]!, i === 0 ? Store.set : Store.add);
      }
      await this.normBack(dx, dn, x, half.norm);
    });
  }

  /** dx += the gradient at the norm's input. */
  async normBack(dx: Matrix, dn: Matrix, x: Matrix, name: string): Promise<void> {
    await this.crew.run('normBack', [dx.at, dn.at, x.at, this.vectors.get(name)!, x.rows, x.cols, this.config.normEps], tasksOf(x.rows));
  }

  /** x += the residual stream's share of a half: its output matrix on `inner`. */
  async output(half: Half, x: Matrix, inner: Matrix, weights: Matrix): Promise<void> {
    await multiply(this.crew, x, inner, t(weights), Store.add);
    await this.bias(x, half.output);
  }

  /** x += a matrix's bias, if it has one. */
  async bias(x: Matrix, name: string): Promise<void> {
    const bias = this.vectors.get(`${name}.bias`);
    if (bias !== undefined) await this.crew.run('addBias', [x.at, bias, x.rows, x.cols], tasksOf(x.rows));
  }

  /** Outputs of the input matrices: as they are, and with q and k normalised and rotated. */
  private async products(half: Half, n: Matrix, weights: readonly Matrix[], chunk: Chunk): Promise<{ raw: Matrix[]; final: Matrix[] }> {
    const { crew } = this, raw: Matrix[] = [];
    for (const [i, w] of weights.entries()) {
      const product = newMatrix(crew, n.rows, w.rows);
      await multiply(crew, product, n, t(w));
      await this.bias(product, half.inputs[i]!);
      raw.push(product);
    }
    const final = [...raw], { positions } = this.places(chunk);
    for (const { i, heads, norm } of this.headed(half)) {
      if (this.vectors.has(norm)) {
        final[i] = copied(crew, raw[i]!);
        await this.norm(byHead(final[i]!, heads), byHead(raw[i]!, heads), norm);
      }
      const x = final[i]!;
      await crew.run('rotate', [x.at, x.cols, x.rows, this.rope, positions, heads, this.config.headDim, 0], tasksOf(x.rows));
    }
    return { raw, final };
  }

  /** The inputs that are rotated: q and k. */
  private headed({ kind, inputs }: Half) {
    const { nHeads, nHeadsKv } = this.config;
    return kind === 'ffn' ? [] : [nHeads, nHeadsKv].map((heads, i) => ({ i, heads, norm: `${inputs[i]}Norm` }));
  }

  /** `raw`: before the sub-norm; `out` itself where there is none. */
  private async between(half: Half, out: Matrix, raw: Matrix, products: readonly Matrix[], chunk: Chunk): Promise<void> {
    const { crew, config: { nHeads, nHeadsKv, headDim, activation } } = this, [a, b, c] = products;
    if (half.kind === 'ffn') await crew.run('gated', [raw.at, a!.at, b!.at, raw.rows, raw.cols, activation === 'silu' ? 1 : 0], tasksOf(raw.rows));
    else await crew.run('attention', [raw.at, a!.at, b!.at, c!.at, this.places(chunk).places, nHeads, nHeadsKv, headDim], nHeads * chunk.sequences.length);
    if (raw !== out) await this.norm(out, raw, half.subNorm);
  }

  /** Position of each row, and where the sequences begin. */
  private places({ tokens, sequences }: Chunk): { positions: number; places: number } {
    const positions = this.crew.take(4 * tokens), places = this.crew.take(8 * sequences.length);
    this.crew.words(positions, tokens).set(sequences.flatMap(ids => ids.map((_, i) => i)));
    let begin = 0;
    this.crew.words(places, 2 * sequences.length).set(sequences.flatMap(({ length }) => [begin, (begin += length, length)]));
    return { positions, places };
  }
}

/** A matrix of vectors that are made of heads, as one of heads. */
const byHead = ({ at, rows, cols }: Matrix, heads: number): Matrix => ({ at, rows: rows * heads, cols: cols / heads });
