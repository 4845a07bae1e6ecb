/** What a layer does between its matrices: the scalar reference against doubles, the kernels against it, bit for bit. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hasRelaxedSimd } from '../../src/engine/instance.js';
import { Activation, KV_BLOCK } from '../../src/generated/layout.js';
import { Bare, noise } from './harness.js';

const test = suite('single operations');
const variants = hasRelaxedSimd() ? ['simd', 'relaxed'] as const : ['simd'] as const;
const sizes = [1, 3, 4, 172, 2048];
const headDims = [8, 24, 64, 80, 128];
const lasts = [0, 1, 15, 16, 17, 300];

const up = (n: number, to: number) => Math.ceil(n / to) * to;
const values = (n: number, seed: number, scale = 1) => {
  const random = noise(seed);
  return Float32Array.from({ length: n }, (_, i) => scale * (i % 41 === 7 ? 8 : 1) * random());
};
const sum = (terms: ArrayLike<number>) => Array.from(terms).reduce((a, b) => a + b, 0);

/** Runs `call` with addresses of the inputs, each padded with zeros as the engine does, and reads `n` floats of the first. */
function compute(bare: Bare, inputs: Float32Array[], n: number, call: (...at: number[]) => void): Float32Array {
  const at = inputs.map(input => {
    const address = bare.take(4 * up(input.length, 4));
    bare.floats(address, up(input.length, 4)).fill(0);
    bare.floats(address, input.length).set(input);
    return address;
  });
  call(...at);
  return bare.floats(at[0]!, n).slice();
}

/** `run` in the reference form is near `formula`, and in the fast form of every variant the same as the reference. */
function check(what: string, run: (bare: Bare, reference: 0 | 1) => Float32Array, formula: number[], allowed: (expected: number, i: number) => number): void {
  const reference = run(new Bare('simd', 4), 1);
  formula.forEach((expected, i) => {
    const error = Math.abs(reference[i]! - expected);
    if (!(error <= allowed(expected, i))) assert.unreachable(`${what}: value ${i} is ${reference[i]}, the formula gives ${expected}, off by ${error}`);
  });
  for (const variant of variants) assert.equal(new Uint32Array(run(new Bare(variant, 4), 0).buffer), new Uint32Array(reference.buffer), `${what}, ${variant}`);
}

test('RMSNorm: relative error below 2e-6', () => {
  for (const n of sizes) {
    for (const eps of [1e-5, 1e-6]) {
      for (const scale of [1, 1e-4, 1e4]) {
        const x = values(n, 3 + n, scale), w = values(n, 4 + n), h = new Float32Array(n);
        const rms = Math.sqrt(sum(x.map(v => v * v)) / n + Math.fround(eps));
        check(`${n} values of size ${scale}`, (bare, reference) => compute(bare, [h, x, w], n, (...at) => bare.exports.rmsNorm!(...at, n, eps, reference)),
          [...x].map((v, i) => v / rms * w[i]!), expected => 2e-6 * Math.abs(expected));
      }
    }
  }
});

test('RoPE: error below 1.2e-7 of the pair', () => {
  for (const headDim of headDims) {
    const half = headDim / 2, head = values(headDim, headDim), angles = new Float32Array(headDim);
    for (let i = 0; i < half; i++) [angles[i], angles[i + half]] = [Math.cos(i + 0.3), Math.sin(i + 0.3)];
    const rotated = [...head].map((a, i) => i < half ? a * angles[i]! - head[i + half]! * angles[i + half]! : head[i - half]! * angles[i]! + a * angles[i - half]!);
    check(`head of ${headDim}`, (bare, reference) => compute(bare, [head, angles], headDim, (...at) => bare.exports.rope!(...at, headDim, reference)),
      rotated, (_, i) => 1.2e-7 * (Math.abs(head[i % half]!) + Math.abs(head[i % half + half]!)));
  }
});

test('attention: error below 3e-6 of the largest value; what lies behind the last position does not count', () => {
  for (const headDim of headDims) {
    for (const last of lasts) {
      const blocks = Math.ceil((last + 1) / KV_BLOCK), q = values(headDim, last + headDim), kv = new Float32Array(blocks * 2 * headDim * KV_BLOCK).fill(NaN);
      const k = values((last + 1) * headDim, 5 + last), v = values((last + 1) * headDim, 6 + last);
      for (let i = 0; i <= last; i++) {
        const block = Math.floor(i / KV_BLOCK) * 2 * headDim * KV_BLOCK;
        for (let d = 0; d < headDim; d++) {
          kv[block + d * KV_BLOCK + i % KV_BLOCK] = k[i * headDim + d]!;
          kv[block + (KV_BLOCK + i % KV_BLOCK) * headDim + d] = v[i * headDim + d]!;
        }
      }
      const scores = Array.from({ length: last + 1 }, (_, i) => sum(Array.from(q, (x, d) => x * k[i * headDim + d]!)) / Math.sqrt(headDim));
      const peak = Math.max(...scores), weights = scores.map(s => Math.exp(s - peak)), total = sum(weights);
      const formula = Array.from({ length: headDim }, (_, d) => sum(weights.map((w, i) => w * v[i * headDim + d]!)) / total);
      const run = (bare: Bare, reference: 0 | 1) => compute(bare, [new Float32Array(headDim), q, kv, new Float32Array(last + 16)], headDim,
        (out, q, kv, scores) => bare.exports.attend!(out, q, kv, last, headDim, scores, reference));
      check(`${last + 1} positions, head of ${headDim}`, run, formula, () => 3e-6 * Math.max(...v.map(Math.abs)));
    }
  }
});

for (const activation of ['silu', 'relu2'] as const) {
  test(`${activation}: relative error below 5e-7`, () => {
    for (const n of sizes) {
      for (const scale of [1, 12]) { // up to e^96: beyond what the exponential's range allows
        const gate = values(n, n, scale), other = values(n, n + 1);
        const formula = [...gate].map((g, i) => (activation === 'silu' ? g / (1 + Math.exp(-g)) : Math.max(g, 0) ** 2) * other[i]!);
        check(`${n} values`, (bare, reference) => compute(bare, [gate, other], n, (...at) => bare.exports.gatedUnit!(...at, n, Activation[activation], reference)),
          formula, (expected, i) => gate[i]! < -87 ? 1e-35 : 5e-7 * Math.abs(expected));
      }
    }
  });
}

const bare = new Bare('simd', 4);
const call = (name: string) => (x: number) => bare.exports[name]!(x) as number;
const span = (from: number, to: number, n = 4001) => Array.from({ length: n }, (_, i) => from + (to - from) * i / (n - 1));

/** Largest value of `error` over the arguments, as a bound that it keeps. */
const within = (bound: number, xs: number[], error: (x: number) => number) => {
  for (const x of xs) assert.ok(error(x) <= bound, `at ${x}: ${error(x)}`);
};

test('e^x in single precision: relative error below 2e-7; constant beyond its range', () => {
  const exp = call('exp32');
  within(2e-7, span(-87.3, 88.3, 20001).map(Math.fround), x => Math.abs(exp(x) / Math.exp(x) - 1));
  assert.is(exp(0), 1);
  assert.is(exp(-Infinity), exp(-88));
  assert.is(exp(-1000), exp(-88));
  assert.is(exp(1000), exp(89));
  assert.ok(exp(1000) < Infinity);
});

test('e^x and ln x in double precision: relative error below 1e-14', () => {
  within(1e-14, span(-699, 699), x => Math.abs(call('exp64')(x) / Math.exp(x) - 1));
  within(1e-14, [...span(-690, 690).map(Math.exp), 0.5, 2, 3, 1e4, 5e5, 1e6, 1e-300], x => {
    const truth = Math.log(x);
    return Math.abs(call('ln64')(x) - truth) / Math.max(Math.abs(truth), 1e-3);
  });
  assert.is(call('ln64')(1), 0);
});

test('sine and cosine in double precision: error below 1e-14 up to 1e6 radians', () => {
  for (const [name, truth] of [['sin64', Math.sin], ['cos64', Math.cos]] as const) {
    within(1e-14, [...span(-10, 10), ...span(0, 1e5), ...span(1e5, 1e6)], x => Math.abs(call(name)(x) - truth(x)));
  }
});

test('RoPE angles, put together as the engine does: error below 1e-9 up to 131,072 positions', () => {
  const [exp, ln, sin, cos] = ['exp64', 'ln64', 'sin64', 'cos64'].map(call) as [(x: number) => number, (x: number) => number, (x: number) => number, (x: number) => number];
  for (const theta of [1e4, 5e5, 1e6]) {
    for (const headDim of headDims) {
      for (const position of [0, 1, 100, 2047, 131071]) {
        for (let i = 0; i < headDim / 2; i++) {
          const angle = position * exp(-2 * i / headDim * ln(theta)), truth = position * theta ** (-2 * i / headDim);
          assert.ok(Math.abs(cos(angle) - Math.cos(truth)) < 1e-9 && Math.abs(sin(angle) - Math.sin(truth)) < 1e-9, `${position}, ${i} of ${headDim}`);
        }
      }
    }
  }
});

test.run();
