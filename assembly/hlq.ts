/**
 * HLQ by alternating optimisation (ELUTQ): w ~ z + sum over planes of s_p bit_p, with free s_p and z per row and group.
 *
 *   start   s_p = R / (2^P - 1) * 2^p, z = min w, R = max w - min w
 *   round   codes = the nearest of the 2^P levels (ties: the smallest code, plane 0 its lowest bit);
 *           [s; z] = pinv(BᵀB) Bᵀw, the least-squares fit, of minimum norm where it is not unique
 *   stop    after 10 rounds, or when no code has changed
 *
 * Arithmetic: f32; a level is z + s_0 bit_0 + s_1 bit_1 … from the left; the sums Bᵀw go through the columns in order, f32;
 * the small solve is f64 and rounded to f32. Four rows go in the lanes of a vector, so a row's result does not depend
 * on its neighbours: when one has converged, further rounds give it the same sums and the same parameters.
 */
import { TILE_ROWS } from './generated/layout';
import { RIGHT_SIDE, SOLVE_BYTES, at, solve } from './solve';

const ROUNDS: i32 = 10;
// Scratch: levels[16], sums[4], counts[4][4] of columns where two planes are both set, a vector each; the solve; codes[n].
const SUMS: usize = 16 << 4;
const COUNTS: usize = SUMS + (4 << 4);
const SOLVE: usize = COUNTS + (16 << 4);
const CODES: usize = SOLVE + SOLVE_BYTES;

/**
 * Fits every group of a tile. params: f32[groups][planes + 1][16], s_0 … s_{P-1}, z. scratch: 4 KiB, 16-byte aligned.
 * The last group may be short: columns that do not exist take no part.
 */
export function hlqFit(tile: usize, cols: i32, planes: i32, groupSize: i32, params: usize, scratch: usize): void {
  for (let begin = 0; begin < cols; begin += groupSize) {
    const n = min(groupSize, cols - begin);
    const group = tile + (<usize>begin << 6);
    for (let quad: usize = 0; quad < 64; quad += 16) fitFourRows(group + quad, n, planes, params + quad, scratch);
    params += <usize>((planes + 1) * TILE_ROWS) << 2;
  }
}

function fitFourRows(w: usize, n: i32, planes: i32, params: usize, scratch: usize): void {
  let lowest = v128.load(w), highest = lowest, total = f32x4.splat(0);
  for (let k = 0; k < n; k++) {
    const v = v128.load(w + (<usize>k << 6));
    lowest = f32x4.min(lowest, v);
    highest = f32x4.max(highest, v);
    total = f32x4.add(total, v);
    v128.store(scratch + CODES + (<usize>k << 4), i32x4.splat(-1));
  }
  const step = f32x4.div(f32x4.sub(highest, lowest), f32x4.splat(<f32>((1 << planes) - 1)));
  for (let p = 0; p < planes; p++) v128.store(params + (<usize>p << 6), f32x4.mul(step, f32x4.splat(<f32>(1 << p))));
  v128.store(params + (<usize>planes << 6), lowest);

  for (let round = 0; round < ROUNDS; round++) {
    makeLevels(params, planes, scratch);
    if (!assign(w, n, planes, scratch)) return;
    for (let lane: usize = 0; lane < 16; lane += 4) refit(n, planes, params + lane, total, lane, scratch);
  }
}

/** levels[e] = z + s_0 bit_0(e) + s_1 bit_1(e) + … */
function makeLevels(params: usize, planes: i32, scratch: usize): void {
  v128.store(scratch, v128.load(params + (<usize>planes << 6)));
  // Adding the highest plane last keeps the order: the levels without it are complete when it is added.
  for (let p = 0; p < planes; p++) {
    const s = v128.load(params + (<usize>p << 6));
    const half: usize = 16 << p;
    for (let e: usize = 0; e < half; e += 16) v128.store(scratch + half + e, f32x4.add(v128.load(scratch + e), s));
  }
}

/** Nearest codes, and with them the sums and counts of the normal equations. Returns whether a code changed. */
function assign(w: usize, n: i32, planes: i32, scratch: usize): bool {
  const levels: usize = 16 << planes;
  const one = i32x4.splat(1);
  memory.fill(scratch + SUMS, 0, SOLVE - SUMS);
  let changed = i32x4.splat(0);
  for (let k = 0; k < n; k++) {
    const v = v128.load(w + (<usize>k << 6));
    let code = i32x4.splat(0), candidate = one;
    let nearest = f32x4.abs(f32x4.sub(v, v128.load(scratch)));
    for (let e: usize = 16; e < levels; e += 16) {
      const distance = f32x4.abs(f32x4.sub(v, v128.load(scratch + e)));
      code = v128.bitselect(candidate, code, f32x4.lt(distance, nearest));
      nearest = f32x4.pmin(nearest, distance);
      candidate = i32x4.add(candidate, one);
    }
    const stored = scratch + CODES + (<usize>k << 4);
    changed = v128.or(changed, v128.xor(code, v128.load(stored)));
    v128.store(stored, code);
    for (let p = 0; p < planes; p++) {
      const mask = bitMask(code, p);
      const sum = scratch + SUMS + (<usize>p << 4);
      v128.store(sum, f32x4.add(v128.load(sum), v128.and(v, mask)));
      for (let q = 0; q <= p; q++) {
        const count = scratch + COUNTS + (<usize>(p * 4 + q) << 4);
        v128.store(count, i32x4.sub(v128.load(count), v128.and(mask, bitMask(code, q))));
      }
    }
  }
  return v128.any_true(changed);
}

// @ts-ignore: decorator
@inline
function bitMask(code: v128, p: i32): v128 { return i32x4.shr_s(i32x4.shl(code, 31 - p), 31); }

/** Solves the normal equations of one row (one lane). Unknowns: s_0 … s_{P-1}, z. */
function refit(n: i32, planes: i32, params: usize, total: v128, lane: usize, scratch: usize): void {
  const m = scratch + SOLVE, b = m + RIGHT_SIDE;
  for (let p = 0; p < planes; p++) {
    for (let q = 0; q <= p; q++) {
      const count = <f64>load<i32>(scratch + COUNTS + (<usize>(p * 4 + q) << 4) + lane);
      store<f64>(at(m, p, q), count);
      store<f64>(at(m, q, p), count);
    }
    const count = load<f64>(at(m, p, p));
    store<f64>(at(m, p, planes), count);
    store<f64>(at(m, planes, p), count);
    store<f64>(at(b, 0, p), <f64>load<f32>(scratch + SUMS + (<usize>p << 4) + lane));
  }
  store<f64>(at(m, planes, planes), <f64>n);
  v128.store(scratch, total); // the levels are spent: their first vector carries the totals
  store<f64>(at(b, 0, planes), <f64>load<f32>(scratch + lane));
  const x = solve(m, planes + 1);
  for (let i = 0; i <= planes; i++) store<f32>(params + (<usize>i << 6), <f32>load<f64>(at(x, 0, i)));
}
