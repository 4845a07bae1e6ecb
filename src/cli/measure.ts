/** How well a model predicts sequences, by itself and beside another model. */
import { BadArgumentError } from '../errors.js';
import type { Model } from '../index.js';
import { interrupt, progressBar } from './terminal.js';
import type { Sequence } from './texts.js';

export interface Measures {
  /** That were predicted. */
  tokens: number;
  /** Nats per token. */
  crossEntropy: number;
  perplexity: number;
}

/** Against a reference, token by token. */
export interface Divergence {
  /** Σ p ln(p / q), p the reference's probabilities, q the model's: mean, and what 99 of 100 tokens stay below. In nats. */
  klMean: number;
  kl99: number;
  /** How often both find the same token the likeliest. */
  top1Agreement: number;
}

export async function measure(model: Model, sequences: readonly Sequence[], reference: Model): Promise<Measures & Divergence>;
export async function measure(model: Model, sequences: readonly Sequence[], reference?: Model): Promise<Measures>;
export async function measure(model: Model, sequences: readonly Sequence[], reference?: Model): Promise<Measures & Partial<Divergence>> {
  const bar = progressBar(), signal = interrupt(), divergences: number[] = [];
  let tokens = 0, sum = 0, agreed = 0;
  try {
    for (const [i, { ids, from }] of sequences.entries()) {
      const [own, other] = await Promise.all([
        model.score(ids, { from, signal, ...(reference && { logits: true }) }), reference?.score(ids, { from, signal, logits: true }),
      ]);
      for (const value of own.logProbabilities) sum -= value;
      tokens += own.logProbabilities.length;
      for (let t = 0; other && t < own.logProbabilities.length; t++) {
        const { kl, agrees } = compare(other.logits![t]!, own.logits![t]!);
        divergences.push(kl);
        agreed += Number(agrees);
      }
      bar.update(`perplexity ${Math.exp(sum / tokens).toFixed(3)}`, i + 1, sequences.length);
    }
  } finally {
    bar.end();
  }
  if (tokens === 0) throw new BadArgumentError('text', 'holds no token to predict', 'Give a longer text.');
  const measures = { tokens, crossEntropy: sum / tokens, perplexity: Math.exp(sum / tokens) };
  if (!reference) return measures;
  const sorted = divergences.sort((a, b) => a - b);
  return {
    ...measures, klMean: sorted.reduce((a, b) => a + b, 0) / tokens,
    // Nearest rank.
    kl99: sorted[Math.ceil(0.99 * tokens) - 1]!, top1Agreement: agreed / tokens,
  };
}

function compare(reference: Float32Array, logits: Float32Array): { kl: number; agrees: boolean } {
  const p = logSum(reference), q = logSum(logits);
  let kl = 0;
  for (let i = 0; i < reference.length; i++) {
    const ln = reference[i]! - p.value;
    kl += Math.exp(ln) * (ln - (logits[i]! - q.value));
  }
  return { kl: Math.max(0, kl), agrees: p.top === q.top };
}

/** ln Σ e^x, and where x is largest. */
function logSum(x: Float32Array): { value: number; top: number } {
  let top = 0, sum = 0;
  for (let i = 1; i < x.length; i++) if (x[i]! > x[top]!) top = i;
  for (const value of x) sum += Math.exp(value - x[top]!);
  return { value: x[top]! + Math.log(sum), top };
}
