/** Drawing a token, against a plain implementation and against probabilities; what evaluation asks of logits. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sizeOfModel, sizeOfRope, sizeOfSampling, writeModel, writeSampling } from '../../src/generated/layout.js';
import { Bare, noise } from './harness.js';

const test = suite('sampler');

interface Options { temperature: number; topK: number; topP: number; minP: number; repetitionPenalty: number; recent: number[]; bias?: Float32Array; seed: bigint; step: bigint }
const plain: Options = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, recent: [], seed: 1n, step: 0n };

/** The sampler over a model without layers, whose logits are what a test puts there. */
class Sampler {
  readonly bare = new Bare('simd', 4);
  private readonly options = this.bare.take(sizeOfSampling);
  private readonly recent = this.bare.take(4096);
  private readonly bias: number;

  constructor(readonly vocab: number) {
    const { bare } = this;
    this.bias = bare.take(4 * vocab);
    const head = bare.randomLinear({ layout: 'f32', planes: 0, groupSize: 0, coding: 'none', rows: vocab, cols: 8, segmented: false }, 1);
    const model = bare.take(sizeOfModel);
    writeModel(bare.view, model, {
      dim: 8, hiddenDim: 8, nLayers: 0, nHeads: 1, nHeadsKv: 1, headDim: 8, vocabSize: vocab, contextLength: 1, normEps: 1e-5, activation: 0,
      rope: bare.take(sizeOfRope), layers: 0, embedding: head, norm: 0, head, reference: 0, rank: 0, ranks: 1, kvType: 0,
    });
    bare.exports.bind!(model, bare.take(bare.exports.workspaceBytes!(model)));
  }

  set logits(values: Float32Array) { this.bare.floats(this.bare.exports.logits!(0), this.vocab).set(values); }

  sample({ recent, bias, ...rest }: Options): number {
    new Uint32Array(this.bare.memory.buffer, this.recent, recent.length).set(recent);
    if (bias) this.bare.floats(this.bias, this.vocab).set(bias);
    writeSampling(this.bare.view, this.options, { ...rest, nRecent: recent.length, recent: this.recent, bias: bias ? this.bias : 0 });
    return this.bare.exports.sample!(0, this.options);
  }
}

/** What may be drawn and how likely, likeliest first; one candidate when nothing is drawn. */
function distribution(logits: Float32Array, o: Options): { id: number; p: number }[] {
  const adjusted = logits.map((logit, id) => {
    const biased = Math.fround(logit + (o.bias?.[id] ?? 0));
    return !o.recent.includes(id) ? biased : biased > 0 ? biased / Math.fround(o.repetitionPenalty) : biased * Math.fround(o.repetitionPenalty);
  });
  let candidates = Array.from(adjusted, (logit, id) => ({ id, logit })).sort((a, b) => b.logit - a.logit || a.id - b.id);
  if (o.temperature === 0) return [{ id: candidates[0]!.id, p: 1 }];
  if (o.topK > 0) candidates = candidates.slice(0, o.topK);
  const weights = candidates.map(({ logit }) => Math.exp((logit - candidates[0]!.logit) / o.temperature));
  const total = weights.reduce((a, b) => a + b);
  let n = 0, kept = 0;
  while (n < candidates.length && (n === 0 || (kept < o.topP * total && weights[n]! >= Math.fround(o.minP)))) kept += weights[n++]!;
  return candidates.slice(0, n).map(({ id }, i) => ({ id, p: weights[i]! / kept }));
}

/** SplitMix64 of seed and step, in [0, 1). */
function uniform(seed: bigint, step: bigint): number {
  const u64 = (x: bigint) => BigInt.asUintN(64, x);
  let z = u64(seed + (step + 1n) * 0x9e3779b97f4a7c15n);
  z = u64((z ^ z >> 30n) * 0xbf58476d1ce4e5b9n);
  z = u64((z ^ z >> 27n) * 0x94d049bb133111ebn);
  return Number((z ^ z >> 31n) >> 11n) / 2 ** 53;
}

function draw(logits: Float32Array, o: Options): number {
  const candidates = distribution(logits, o), target = uniform(o.seed, o.step);
  let sum = 0;
  return candidates.find(({ p }) => target < (sum += p))?.id ?? candidates[0]!.id;
}

const randomLogits = (vocab: number, seed: number, scale = 6) => {
  const random = noise(seed);
  return Float32Array.from({ length: vocab }, () => scale * random());
};

test('draws what the plain implementation draws', () => {
  const random = noise(77), choose = <T>(...of: T[]) => of[Math.floor((random() + 1) / 2 * of.length)]!;
  for (const vocab of [1, 2, 50, 515]) {
    const sampler = new Sampler(vocab);
    for (let i = 0; i < 500; i++) {
      const logits = sampler.logits = randomLogits(vocab, i + 1);
      if (i % 5 === 0) for (let j = 0; j < vocab; j += 3) logits[j] = Math.round(logits[j]!); // ties
      sampler.logits = logits;
      const o: Options = {
        temperature: choose(0, 0.3, 0.8, 1, 2.5), topK: choose(0, 1, 2, 7, 40, 1000), topP: choose(0, 0.1, 0.5, 0.9, 1), minP: choose(0, 0, 0.05, 0.5, 1),
        repetitionPenalty: choose(1, 1.1, 1.5), recent: Array.from({ length: choose(0, 1, 30) }, () => Math.floor((random() + 1) * vocab)), // some unknown, some twice
        bias: choose(undefined, randomLogits(vocab, i + 9, 3)), seed: BigInt(choose(0, 1, 2 ** 53 - 1)) << choose(0n, 11n), step: BigInt(i),
      };
      assert.is(sampler.sample(o), draw(logits, o), `vocabulary ${vocab}, ${JSON.stringify({ ...o, bias: !!o.bias }, (_, v) => typeof v === 'bigint' ? `${v}` : v)}`);
    }
  }
});

test('20,000 draws fit the probabilities, over steps and over seeds', () => {
  const vocab = 60, sampler = new Sampler(vocab), logits = sampler.logits = randomLogits(vocab, 5, 3), draws = 20_000;
  for (const options of [plain, { ...plain, temperature: 0.7, topK: 20 }, { ...plain, topP: 0.8 }, { ...plain, temperature: 1.5, minP: 0.1 }, { ...plain, repetitionPenalty: 1.3, recent: [1, 2, 3] }]) {
    for (const vary of ['step', 'seed'] as const) {
      const seen = new Float64Array(vocab), expected = distribution(logits, options);
      for (let i = 0; i < draws; i++) seen[sampler.sample({ ...options, [vary]: BigInt(i) })]!++;
      const chiSquare = expected.reduce((sum, { id, p }) => sum + (seen[id]! - draws * p) ** 2 / (draws * p), 0), freedom = expected.length - 1;
      // Mean `freedom`, variance twice that.
      assert.ok(Math.abs(chiSquare - freedom) < 4 * Math.sqrt(2 * freedom), `${chiSquare} at ${freedom} degrees of freedom`);
      assert.is(expected.reduce((sum, { id }) => sum + seen[id]!, 0), draws, 'something else was drawn');
    }
  }
});

test('greedy takes the lowest of equal ids; a seed and a step give one token', () => {
  const sampler = new Sampler(100);
  sampler.logits = new Float32Array(100).fill(2);
  assert.is(sampler.sample({ ...plain, temperature: 0 }), 0);
  sampler.logits = Float32Array.from({ length: 100 }, (_, i) => i === 63 || i === 40 ? 5 : -i);
  assert.is(sampler.sample({ ...plain, temperature: 0 }), 40);
  assert.is(sampler.sample({ ...plain, topK: 1 }), 40);
  assert.is(sampler.sample({ ...plain, topP: 0 }), 40);
  assert.is(sampler.sample({ ...plain, minP: 1, temperature: 1e-3, topP: 0.4 }), 40);
  sampler.logits = randomLogits(100, 3);
  const runs = [0, 1].map(() => Array.from({ length: 50 }, (_, step) => sampler.sample({ ...plain, seed: 9n, step: BigInt(step) })));
  assert.equal(runs[0], runs[1]);
  assert.ok(new Set(runs[0]).size > 10);
});

test('what is masked is never drawn; one that is left is always', () => {
  const sampler = new Sampler(515), bias = new Float32Array(515).fill(-Infinity);
  sampler.logits = randomLogits(515, 8);
  bias[77] = 0;
  for (const temperature of [0, 1, 100]) assert.is(sampler.sample({ ...plain, temperature, bias }), 77);
  bias[500] = 0;
  for (let i = 0; i < 5000; i++) assert.ok([77, 500].includes(sampler.sample({ ...plain, temperature: 100, bias, step: BigInt(i) })));
  bias.fill(-Infinity);
  assert.ok(sampler.sample({ ...plain, bias }) < 515);
});

test('log-probability: error below 2.5e-7 and half a bit of the distance to the peak', () => {
  for (const [vocab, scale] of [[1, 1], [2, 40], [515, 1], [515, 30], [32000, 6]] as const) {
    const sampler = new Sampler(vocab), logits = sampler.logits = randomLogits(vocab, vocab, scale);
    const peak = logits.reduce((a, b) => Math.max(a, b)), total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - peak), 0));
    for (let token = 0; token < vocab; token += 1 + (vocab >> 6)) {
      const truth = logits[token]! - peak - total, actual = sampler.bare.exports.logProbability!(0, token);
      assert.ok(Math.abs(actual - truth) < 2.5e-7 + 6e-8 * Math.abs(logits[token]! - peak), `${token} of ${vocab}: ${actual}, expected ${truth}`);
    }
  }
});

test('the hash covers every bit of every logit', () => {
  const sampler = new Sampler(17), logits = randomLogits(17, 4);
  const hash = (values: Float32Array, start = 0n) => { sampler.logits = values; return BigInt.asUintN(64, sampler.bare.exports.hashLogits!(0, start)); };
  let expected = 0n;
  for (const bits of new Uint32Array(logits.buffer)) expected = BigInt.asUintN(64, ((expected << 5n | expected >> 59n) ^ BigInt(bits)) * 0x517cc1b727220a95n);
  assert.is(hash(logits), expected);
  assert.is.not(hash(logits, 1n), expected);
  for (let i = 0; i < 17; i++) {
    for (const bit of [0, 22, 31]) {
      const changed = logits.slice();
      new Uint32Array(changed.buffer)[i]! ^= 1 << bit;
      assert.is.not(hash(changed), expected, `logit ${i}, bit ${bit}`);
    }
  }
});

test.run();
