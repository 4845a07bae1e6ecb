/**
 * What a transformer layer does, in f32, for a chunk of sequences, and the same backward. A layer is two halves of one shape:
 * normalise, some matrices, something between, one matrix back to the residual stream.
 */
import type { ModelConfig } from '../formats/types.js';
import type { Chunk } from './activations.js';
import type { Crew } from './crew.js';
import { multiply, newMatrix, Store, t, tasksOf, zeros, type Matrix } from './matrix.js';

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
  private readonly norms = new Map<string, number>();

  private constructor(private readonly crew: Crew, private readonly config: ModelConfig, norms: ReadonlyMap<string, Float32Array>, longest: number) {
    for (const [name, norm] of norms) {
      const at = crew.take(4 * norm.length);
      crew.floats(at, norm.length).set(norm);
      this.norms.set(name, at);
    }
    this.rope = crew.take(4 * longest * config.headDim);
  }

  /** @param longest sequence, in tokens */
  static async create(crew: Crew, config: ModelConfig, norms: ReadonlyMap<string, Float32Array>, longest: number): Promise<Forward> {
    const forward = new Forward(crew, config, norms, longest);
    await crew.run('ropeAngles', [forward.rope, longest, config.headDim, config.ropeTheta], 1);
    return forward;
  }

  async norm(out: Matrix, x: Matrix, name: string): Promise<void> {
    await this.crew.run('norm', [out.at, x.at, this.norms.get(name)!, x.rows, x.cols, this.config.normEps], tasksOf(x.rows));
  }

  /** What the half's output matrix reads, from the normalised input and the input matrices. */
  async inner(half: Half, out: Matrix, n: Matrix, weights: readonly Matrix[], chunk: Chunk): Promise<void> {
    await this.crew.within(async () => {
      await this.between(half, out, this.norms.has(half.subNorm) ? newMatrix(this.crew, out.rows, out.cols) : out, await this.products(half, n, weights, chunk), chunk);
    });
  }

  /** dx += the gradient at the half's input x, from `dOut` at its output matrix's output; both streams of it, past the half and through it. */
  async back(half: Half, dx: Matrix, dOut: Matrix, x: Matrix, inputs: readonly Matrix[], output: Matrix, chunk: Chunk,
    visit: (name: string, input: Matrix, gradient: Matrix) => Promise<void>): Promise<void> {
    const { crew, config: { nHeads, nHeadsKv, headDim, activation, normEps } } = this;
    const make = (like: Matrix) => newMatrix(crew, like.rows, like.cols), rows = tasksOf(x.rows);
    await crew.within(async () => {
      const n = make(x), inner = newMatrix(crew, x.rows, half.inner), d = make(inner);
      await this.norm(n, x, half.norm);
      const products = await this.products(half, n, inputs, chunk), raw = this.norms.has(half.subNorm) ? make(inner) : inner;
      await this.between(half, inner, raw, products, chunk);
      await visit(half.output, inner, dOut);
      await multiply(crew, d, dOut, output);
      if (raw !== inner) {
        const dRaw = zeros(crew, d.rows, d.cols);
        await crew.run('normBack', [dRaw.at, d.at, raw.at, this.norms.get(half.subNorm)!, d.rows, d.cols, normEps], rows);
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
        for (const [one, heads] of [[gradients[0]!, nHeads], [gradients[1]!, nHeadsKv]] as const) {
          await crew.run('rotateBack', [one.at, one.cols, one.rows, this.rope, positions, heads, headDim], rows);
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
    await this.crew.run('normBack', [dx.at, dn.at, x.at, this.norms.get(name)!, x.rows, x.cols, this.config.normEps], tasksOf(x.rows));
  }

  /** Outputs of the input matrices, q and k rotated. */
  private async products(half: Half, n: Matrix, weights: readonly Matrix[], chunk: Chunk): Promise<Matrix[]> {
    const { crew, config: { nHeads, nHeadsKv, headDim } } = this;
    const products = weights.map(w => newMatrix(crew, n.rows, w.rows));
    for (const [i, w] of weights.entries()) await multiply(crew, products[i]!, n, t(w));
    if (half.kind === 'ffn') return products;
    const { positions } = this.places(chunk);
    for (const [x, heads] of [[products[0]!, nHeads], [products[1]!, nHeadsKv]] as const) {
      await crew.run('rotate', [x.at, x.cols, x.rows, this.rope, positions, heads, headDim], tasksOf(x.rows));
    }
    return products;
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
