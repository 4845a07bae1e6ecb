/**
 * The least-squares step of HLQ: x = pinv(A) b for the normal equations A = BᵀB of at most 5 unknowns, where B holds 0/1
 * columns (the planes, and the constant 1). A is an integer matrix, so its rank can be told exactly.
 */

/** Scratch of f64: A (5x5), then at these offsets b (5), a factor or eigenvectors (5x5), x (5). */
export const RIGHT_SIDE: usize = 25 << 3;
const FACTOR: usize = 30 << 3;
const SOLUTION: usize = 55 << 3;
export const SOLVE_BYTES: usize = 60 << 3;
const N: i32 = 5;

// @ts-ignore: decorator
@inline
export function at(m: usize, i: i32, j: i32): usize { return m + (<usize>(i * N + j) << 3); }

/** Solves in the scratch at m, whose A and b are filled in; returns the address of x. A may be overwritten. */
export function solve(m: usize, n: i32): usize {
  const b = m + RIGHT_SIDE, factor = m + FACTOR, x = m + SOLUTION;
  if (!choleskySolve(m, b, factor, x, n)) minimumNormSolve(m, b, factor, x, n);
  return x;
}

/** LDLᵀ. False when A is singular: a pivot is a quotient of integers below 128⁴, so it is 0 or above 3.7e-9. */
function choleskySolve(a: usize, b: usize, l: usize, x: usize, n: i32): bool {
  for (let j = 0; j < n; j++) {
    let d = load<f64>(at(a, j, j));
    for (let k = 0; k < j; k++) d -= load<f64>(at(l, j, k)) * load<f64>(at(l, j, k)) * load<f64>(at(l, k, k));
    if (d < 1e-9) return false;
    store<f64>(at(l, j, j), d);
    for (let i = j + 1; i < n; i++) {
      let s = load<f64>(at(a, i, j));
      for (let k = 0; k < j; k++) s -= load<f64>(at(l, i, k)) * load<f64>(at(l, j, k)) * load<f64>(at(l, k, k));
      store<f64>(at(l, i, j), s / d);
    }
  }
  for (let i = 0; i < n; i++) {
    let s = load<f64>(at(b, 0, i));
    for (let k = 0; k < i; k++) s -= load<f64>(at(l, i, k)) * load<f64>(at(x, 0, k));
    store<f64>(at(x, 0, i), s);
  }
  for (let i = n - 1; i >= 0; i--) {
    let s = load<f64>(at(x, 0, i)) / load<f64>(at(l, i, i));
    for (let k = i + 1; k < n; k++) s -= load<f64>(at(l, k, i)) * load<f64>(at(x, 0, k));
    store<f64>(at(x, 0, i), s);
  }
  return true;
}

/** Eigenvalues by cyclic Jacobi rotations; those that are 0 up to rounding are left out. */
function minimumNormSolve(a: usize, b: usize, v: usize, x: usize, n: i32): void {
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) store<f64>(at(v, i, j), i == j ? 1 : 0);
  for (let sweep = 0; sweep < 16; sweep++) {
    for (let p = 0; p < n - 1; p++) for (let q = p + 1; q < n; q++) rotate(a, v, p, q, n);
  }
  let largest: f64 = 0;
  for (let i = 0; i < n; i++) {
    largest = max(largest, load<f64>(at(a, i, i)));
    store<f64>(at(x, 0, i), 0);
  }
  for (let e = 0; e < n; e++) {
    const eigenvalue = load<f64>(at(a, e, e));
    if (eigenvalue <= 1e-10 * largest) continue;
    let projection: f64 = 0;
    for (let i = 0; i < n; i++) projection += load<f64>(at(v, i, e)) * load<f64>(at(b, 0, i));
    projection /= eigenvalue;
    for (let i = 0; i < n; i++) store<f64>(at(x, 0, i), load<f64>(at(x, 0, i)) + load<f64>(at(v, i, e)) * projection);
  }
}

/** One Jacobi rotation that makes A[p][q] zero. */
function rotate(a: usize, v: usize, p: i32, q: i32, n: i32): void {
  const apq = load<f64>(at(a, p, q));
  if (apq == 0) return;
  const theta = (load<f64>(at(a, q, q)) - load<f64>(at(a, p, p))) / (2 * apq);
  const t = (theta < 0 ? -1.0 : 1.0) / (abs(theta) + sqrt(theta * theta + 1));
  const c = 1 / sqrt(t * t + 1), s = t * c;
  for (let k = 0; k < n; k++) turn(at(a, k, p), at(a, k, q), c, s);
  for (let k = 0; k < n; k++) turn(at(a, p, k), at(a, q, k), c, s);
  for (let k = 0; k < n; k++) turn(at(v, k, p), at(v, k, q), c, s);
}

// @ts-ignore: decorator
@inline
function turn(p: usize, q: usize, c: f64, s: f64): void {
  const x = load<f64>(p), y = load<f64>(q);
  store<f64>(p, c * x - s * y);
  store<f64>(q, s * x + c * y);
}
