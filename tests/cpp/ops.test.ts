/** What a layer does between its matrices: the scalar reference against doubles, the kernels against it, bit for bit. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hasRelaxedSimd } from '../../src/engine/instance.js';
import { Activation, KV_BLOCK, KV_SCALE_BYTES, KV_VALUE_BYTES, KvType, RopeScaling, sizeOfRope, writeRope } from '../../src/generated/layout.js';
import { Bare, noise } from './harness.js';

const test = suite('single operations');
const variants = hasRelaxedSimd() ? ['simd', 'relaxed'] as const : ['simd'] as const;
const sizes = [1, 3, 4, 172, 2048];
const headDims = [8, 24, 64, 80, 128];
const lasts = [0, 1, 15, 16, 17, 255, 256, 257, 530];

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

/** Softmax attention of `heads` query heads over n positions, in both forms, beside the formula in doubles. */
function checkAttention(what: string, kvType: 'f32' | 'int8', headDim: number, q: Float32Array, k: Float32Array, v: Float32Array, allowed: number): void {
  const heads = q.length / headDim, n = k.length / headDim, blockBytes = 2 * KV_BLOCK * (headDim * KV_VALUE_BYTES[kvType] + KV_SCALE_BYTES[kvType]);
  const formula = Array.from({ length: heads }, (_, h) => {
    const scores = Array.from({ length: n }, (_, i) => {
      let product = 0;
      for (let d = 0; d < headDim; d++) product += q[h * headDim + d]! * k[i * headDim + d]!;
      return product / Math.sqrt(headDim);
    });
    const peak = Math.max(...scores), weights = scores.map(s => Math.exp(s - peak)), total = sum(weights);
    return Array.from({ length: headDim }, (_, d) => sum(weights.map((w, i) => w * v[i * headDim + d]!)) / total);
  }).flat();
  const run = (bare: Bare, reference: 0 | 1) => {
    const floats = bare.exports.attendScratch!(KvType[kvType], heads, Math.ceil(n / KV_BLOCK) * KV_BLOCK, headDim) as number;
    const rows = new Float32Array(Math.ceil(n / KV_BLOCK) * blockBytes / 4).fill(kvType === 'f32' ? NaN : 1e9);
    return compute(bare, [new Float32Array(heads * headDim), q, rows, new Float32Array(floats), k, v], heads * headDim, (out, q, kv, scratch, k, v) => {
      for (let i = 0; i < n; i++) bare.exports.storeKv!(KvType[kvType], kv, i, headDim, k! + 4 * i * headDim, v! + 4 * i * headDim);
      bare.exports.attend!(KvType[kvType], out, q, heads, kv, n - 1, headDim, scratch, reference);
    });
  };
  const bound = allowed * v.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  check(`${what}: ${kvType}, ${n} positions, ${heads} heads of ${headDim}`, run, formula, () => bound);
}

test('attention: within 3e-6 of the largest value, with an int8 cache 2 %; what lies behind the last position does not count', () => {
  for (const kvType of ['f32', 'int8'] as const) {
    for (const headDim of headDims) {
      for (const last of lasts) {
        const heads = last % 11 + 1, n = last + 1;
        checkAttention('noise', kvType, headDim, values(heads * headDim, last + headDim), values(n * headDim, 5 + last), values(n * headDim, 6 + last), kvType === 'f32' ? 3e-6 : 2e-2);
      }
    }
  }
});

test('attention over int8 where sums are as large as they can be, and where nothing is left of a vector', () => {
  const n = 300;
  for (const headDim of [64, 80, 128]) {
    // Turned by the Hadamard matrix these are flat: every product has the same sign, and no code is small.
    const impulse = (i: number, d: number) => d % 64 === i % 2 ? 4 : 0, flat = () => 1, none = () => 0, rising = (i: number, d: number) => (d % 3 - 1) * i / 20;
    const patterns: [string, (i: number, d: number) => number, (i: number, d: number) => number, (i: number, d: number) => number][] = [
      ['impulses', () => 4, impulse, flat], ['alike', flat, flat, flat], ['opposed', flat, () => -1, () => -1], ['single dimensions', impulse, impulse, impulse],
      ['no query', none, flat, impulse], ['no keys', flat, none, impulse], ['no values', flat, flat, none], ['rising scores', rising, rising, impulse],
    ];
    const rows = (length: number, at: (i: number, d: number) => number) => Float32Array.from({ length: length * headDim }, (_, i) => at(Math.floor(i / headDim), i % headDim));
    for (const [what, q, k, v] of patterns) checkAttention(what, 'int8', headDim, rows(3, (i, d) => q(i + 1, d)), rows(n, k), rows(n, v), 2e-2);
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

const plainRope = { theta: 1e4, factor: 1, originalLength: 1, low: 1, high: 1, attention: 0, scaling: RopeScaling.none as number, truncate: 0, divisors: 0 };

/** Cosines, sines and the frequencies behind them. */
function ropeAngles(rope: Partial<typeof plainRope>, headDim: number, position: number, divisors?: Float32Array) {
  const at = bare.take(sizeOfRope), frequencies = bare.take(4 * headDim), angles = bare.take(4 * headDim), list = bare.take(2 * headDim);
  if (divisors) bare.floats(list, headDim / 2).set(divisors);
  writeRope(bare.view, at, { ...plainRope, ...rope, divisors: divisors ? list : 0 });
  bare.exports.ropeAngles!(at, headDim, position, frequencies, angles);
  return { frequencies: new Float64Array(bare.memory.buffer, frequencies, headDim / 2).slice(), angles: bare.floats(angles, headDim).slice() };
}
const plainFrequencies = (theta: number, headDim: number) => Array.from({ length: headDim / 2 }, (_, i) => theta ** (-2 * i / headDim));

test('RoPE angles: as single precision rounds them, up to 131,072 positions', () => {
  for (const theta of [1e4, 5e5, 1e6]) {
    for (const headDim of headDims) {
      for (const position of [0, 1, 100, 2047, 131071]) {
        const { angles } = ropeAngles({ theta }, headDim, position);
        plainFrequencies(theta, headDim).forEach((frequency, i) => {
          const [cosine, sine] = [Math.cos(position * frequency), Math.sin(position * frequency)];
          assert.ok(Math.abs(angles[i]! - cosine) < 6.1e-8 && Math.abs(angles[i + headDim / 2]! - sine) < 6.1e-8, `${position}, ${i} of ${headDim}`);
        });
      }
    }
  }
});

test('RoPE scaling: linear, llama3, yarn and listed divisors against their formulas', () => {
  const [headDim, theta, factor, originalLength] = [64, 5e5, 8, 8192], plain = plainFrequencies(theta, headDim);
  const near = (what: string, actual: ArrayLike<number>, expected: number[]) => expected.forEach((f, i) => assert.ok(Math.abs(actual[i]! / f - 1) < 1e-12, `${what}: frequency ${i}`));
  near('linear', ropeAngles({ theta, factor, scaling: RopeScaling.linear }, headDim, 1).frequencies, plain.map(f => f / factor));

  const llama3 = { theta, factor, originalLength, low: 1, high: 4, scaling: RopeScaling.llama3 };
  const blended = plain.map(f => {
    const turns = originalLength * f / (2 * Math.PI), kept = Math.min(1, Math.max(0, (turns - 1) / 3));
    return f * (kept + (1 - kept) / factor);
  });
  assert.ok(blended.some((f, i) => f !== plain[i] && f > plain[i]! / factor * 1.001), 'some lie between');
  near('llama3', ropeAngles(llama3, headDim, 1).frequencies, blended);

  const turnsAt = (turns: number) => headDim * Math.log(originalLength / (2 * Math.PI * turns)) / (2 * Math.log(theta));
  for (const truncate of [0, 1]) {
    const first = truncate ? Math.floor(turnsAt(32)) : turnsAt(32), last = truncate ? Math.ceil(turnsAt(1)) : turnsAt(1);
    const { frequencies, angles } = ropeAngles({ ...llama3, low: 1, high: 32, truncate, scaling: RopeScaling.yarn }, headDim, 77);
    const expected = plain.map((f, i) => {
      const slowed = Math.min(1, Math.max(0, (i - first) / (last - first)));
      return f / factor * slowed + f * (1 - slowed);
    });
    near('yarn', frequencies, expected);
    const attention = 0.1 * Math.log(factor) + 1;
    expected.forEach((f, i) => assert.ok(Math.abs(angles[i]! - attention * Math.cos(77 * f)) < 2e-7 && Math.abs(angles[i + headDim / 2]! - attention * Math.sin(77 * f)) < 2e-7));
    const given = ropeAngles({ ...llama3, low: 1, high: 32, truncate, attention: 0.5, scaling: RopeScaling.yarn }, headDim, 0).angles;
    assert.equal([...given], [...new Array(headDim / 2).fill(0.5), ...new Array(headDim / 2).fill(0)]);
  }
  const divisors = values(headDim / 2, 5).map(v => 1 + Math.abs(v));
  near('divisors', ropeAngles({ theta }, headDim, 1, divisors).frequencies, plain.map((f, i) => f / divisors[i]!));
});

test.run();
