/**
 * What a transformer layer does, in f32, for a chunk of sequences. A layer is two halves of one shape: normalise, some
 * matrices, something between, one matrix back to the residual stream. Nothing is overwritten that a backward pass needs.
 */
import type { ModelConfig } from '../formats/types.js';
import type { Chunk } from './activations.js';
import type { Crew } from './crew.js';
import { multiply, newMatrix, t, tasksOf, type Matrix } from './matrix.js';

/** Half of a layer: its norm, the matrices that read the normalised input, and the one that writes to the residual stream. */
export interface Half { norm: string; inputs: readonly string[]; output: string; subNorm: string; kind: 'attn' | 'ffn'; /** Of the vector between. */ inner: number }

export function halves({ nHeads, headDim, hiddenDim }: ModelConfig, layer: number): Half[] {
  const name = `layers.${layer}`;
  return [
    { kind: 'attn', norm: `${name}.attn.norm`, inputs: ['q', 'k', 'v'].map(one => `${name}.attn.${one}`), output: `${name}.attn.o`, subNorm: `${name}.attn.subNorm`, inner: nHeads * headDim },
    { kind: 'ffn', norm: `${name}.ffn.norm`, inputs: ['gate', 'up'].map(one => `${name}.ffn.${one}`), output: `${name}.ffn.down`, subNorm: `${name}.ffn.subNorm`, inner: hiddenDim },
  ];
}

export class Forward {
  private readonly rope: number;
  private readonly norms = new Map<string, number>();

  private constructor(private readonly crew: Crew, private readonly config: ModelConfig, norms: ReadonlyMap<string, Float32Array>, readonly longest: number) {
    for (const [name, values] of norms) {
      const at = crew.take(4 * values.length);
      crew.floats(at, values.length).set(values);
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
      const products = weights.map(w => newMatrix(this.crew, n.rows, w.rows));
      for (const [i, w] of weights.entries()) await multiply(this.crew, products[i]!, n, t(w));
      const raw = this.norms.has(half.subNorm) ? newMatrix(this.crew, out.rows, out.cols) : out;
      if (half.kind === 'attn') await this.attention(raw, products, chunk);
      else await this.crew.run('gated', [raw.at, products[0]!.at, products[1]!.at, raw.rows, raw.cols, this.config.activation === 'silu' ? 1 : 0], tasksOf(raw.rows));
      if (raw !== out) await this.norm(out, raw, half.subNorm);
    });
  }

  private async attention(out: Matrix, [q, k, v]: readonly Matrix[], { tokens, sequences }: Chunk): Promise<void> {
    const { crew, config: { nHeads, nHeadsKv, headDim } } = this;
    const positions = crew.take(4 * tokens), places = crew.take(8 * sequences.length);
    crew.words(positions, tokens).set(sequences.flatMap(ids => ids.map((_, i) => i)));
    let begin = 0;
    crew.words(places, 2 * sequences.length).set(sequences.flatMap(({ length }) => [begin, (begin += length, length)]));
    for (const [x, heads] of [[q!, nHeads], [k!, nHeadsKv]] as const) {
      await crew.run('rotate', [x.at, x.cols, tokens, this.rope, positions, heads, headDim], tasksOf(tokens));
    }
    await crew.run('attention', [out.at, q!.at, k!.at, v!.at, places, nHeads, nHeadsKv, headDim], nHeads * sequences.length);
  }
}
