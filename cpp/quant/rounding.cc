#include "quant/rounding.h"
#include "half.h"
#include "quant/gemm.h"
#include "quant/grid.h"
#include "quant/lanes.h"

namespace lutra::quant {
namespace {

constexpr uint32_t kQuads = SLAB / 4, kMaxGroup = 128;
constexpr float kShrink[] = {1, 0.85f, 0.7f, 0.55f};  // of the range, where fits start from

LUTRA_INLINE V loadCode(const uint8_t* p) { return wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(p))); }
LUTRA_INLINE void storeCode(uint8_t* p, V code) {
  const V halves = wasm_u16x8_narrow_i32x4(code, code);
  wasm_v128_store32_lane(p, wasm_u8x16_narrow_i16x8(halves, halves), 0);
}
LUTRA_INLINE V select(V mask, V yes, V no) { return wasm_v128_bitselect(yes, no, mask); }

template <class G>
class Slab {
  static constexpr uint32_t P = G::kParams;

 public:
  Slab(const Rounding& job, G grid, uint8_t* at) : job(job), grid(grid), cols(job.cols), groups(roundUp(job.cols, job.groupSize)) {
    gemmScratch = at;
    at += kGemmScratch;
    const size_t column = sizeof(float) * SLAB;
    w = take(at, column * cols);
    e = take(at, column * cols);
    theta = take(at, column * groups * P);
    old = take(at, column * groups * P);
    block = take(at, column * kMaxGroup);
    phi = take(at, column * kMaxGroup);
    codes = reinterpret_cast<uint8_t*>(take(at, SLAB * cols));
    products = take(at, job.joint ? column * cols : 0);
    right = take(at, job.joint ? column * groups * P : 0);
    normal = take(at, job.joint ? column * triangle(groups * P) : 0);
    bytes = at;
  }
  uint8_t* bytes;

  void run(uint32_t first) {
    const uint32_t rows = job.rows - first < SLAB ? job.rows - first : SLAB;
    for (uint32_t j = 0; j < cols; j++) {
      for (uint32_t r = 0; r < SLAB; r++) w[j * SLAB + r] = r < rows ? job.target[static_cast<size_t>(first + r) * cols + job.order[j]] : 0;
    }
    forGroups([&](uint32_t g, uint32_t begin, uint32_t n) { roundGroup(g, begin, n); });
    for (uint32_t pass = 0; pass < job.passes; pass++) {
      sweep();
      if (job.joint) fitAll();
    }
    if (job.sixBit) {
      codeParams(first, rows);
      for (uint32_t i = 0; i < job.sweeps && sweep(); i++) {}
    }
    write(first, rows);
  }

 private:
  const Rounding& job;
  G grid;
  const uint32_t cols, groups;
  uint8_t *gemmScratch, *codes;  // codes: [cols][SLAB]
  float *w, *e;                  // target and error, [cols][SLAB]
  float *theta, *old;            // [groups][P][SLAB]
  float *block, *phi;            // [kMaxGroup][SLAB]
  float *products, *right, *normal;

  static uint32_t roundUp(uint32_t n, uint32_t d) { return (n + d - 1) / d; }
  static size_t triangle(size_t n) { return n * (n + 1) / 2; }
  static float* take(uint8_t*& at, size_t bytes) {
    float* p = reinterpret_cast<float*>(at);
    at += (bytes + 63) / 64 * 64;
    return p;
  }
  template <class F>
  void forGroups(F visit) {
    for (uint32_t begin = 0, g = 0; begin < cols; g++) {
      const uint32_t first = job.order[begin] / job.groupSize * job.groupSize;
      const uint32_t n = cols - first < job.groupSize ? cols - first : job.groupSize;
      visit(g, begin, n);
      begin += n;
    }
  }
  const float* hAt(uint32_t i, uint32_t j) const { return job.h + static_cast<size_t>(i) * cols + j; }
  const float* vAt(uint32_t i, uint32_t j) const { return job.v + static_cast<size_t>(i) * cols + j; }
  void loadTheta(uint32_t g, uint32_t quad, V* t) const { for (uint32_t a = 0; a < P; a++) t[a] = load(theta + (g * P + a) * SLAB + 4 * quad); }
  void storeTheta(uint32_t g, uint32_t quad, const V* t) { for (uint32_t a = 0; a < P; a++) store(theta + (g * P + a) * SLAB + 4 * quad, t[a]); }

  // ---- Levels of one group and four rows, weighted by column ----

  // Levels for the values u, from several starts by turns: nearest level, weighted least squares.
  void fit(const V* u, const float* weight, uint32_t n, V* best) {
    V low = u[0], high = u[0], least = splat(__builtin_inff());
    for (uint32_t j = 1; j < n; j++) {
      low = wasm_f32x4_pmin(low, u[j]);
      high = wasm_f32x4_pmax(high, u[j]);
    }
    for (uint32_t start = 0; start < job.starts; start++) {
      V t[P], last = least;
      grid.start(t, low, high, kShrink[start]);
      for (uint32_t round = 0; round < job.rounds; round++) {
        V a[P][P], b[P], error = splat(0);
        for (uint32_t i = 0; i < P; i++) {
          b[i] = splat(0);
          for (uint32_t k = 0; k <= i; k++) a[i][k] = splat(0);
        }
        grid.use(t);
        for (uint32_t j = 0; j < n; j++) {
          const V code = grid.nearestCode(u[j]), d = sub(u[j], grid.level(code)), h = splat(weight[j]), hd = mul(h, d);
          error = add(error, mul(hd, d));
          V f[P];
          for (uint32_t i = 0; i < P; i++) {
            f[i] = grid.phi(code, i);
            const V hf = mul(h, f[i]);
            b[i] = add(b[i], mul(hd, f[i]));
            for (uint32_t k = 0; k <= i; k++) a[i][k] = add(a[i][k], mul(hf, f[k]));
          }
        }
        const V better = wasm_f32x4_lt(error, least);
        for (uint32_t i = 0; i < P; i++) best[i] = select(better, t[i], best[i]);
        least = select(better, error, least);
        if (round > 0 && !wasm_v128_any_true(wasm_f32x4_lt(error, mul(last, splat(0.99999f))))) break;
        last = error;
        solveLanes<P>(a, b);
        for (uint32_t i = 0; i < P; i++) t[i] = add(t[i], b[i]);
      }
    }
  }

  // ---- LDLQ ----

  // What is left of the group's columns in the metric of V: out[j] = V_jj (t_j - level), t_j the value that would cancel all
  // errors so far. Returns the sum of squares.
  V roundColumns(uint32_t begin, uint32_t n, uint32_t quad, const V* carried, V* error, V* code, V* out) {
    V f[kMaxGroup], sum = splat(0);
    for (uint32_t j = 0; j < n; j++) f[j] = carried[j];
    for (uint32_t j = 0; j < n; j++) {
      const float* v = vAt(begin + j, begin);
      const V value = load(w + (begin + j) * SLAB + 4 * quad), t = add(value, mul(f[j], splat(1 / v[j])));
      if (!job.fixedCodes) code[j] = grid.nearestCode(t);
      const V level = grid.level(code[j]);
      error[j] = sub(value, level);
      out[j] = mul(splat(v[j]), sub(t, level));
      sum = add(sum, mul(out[j], out[j]));
      for (uint32_t k = j + 1; k < n; k++) f[k] = add(f[k], mul(error[j], splat(v[k])));
    }
    return sum;
  }

  void roundGroup(uint32_t g, uint32_t begin, uint32_t n) {
    if (!job.v) return roundAlone(g, begin, n);
    // F = E[:, before] V[before, group], transposed.
    if (begin > 0) gemm(block, SLAB, n, SLAB, begin, {vAt(0, begin), 1, cols}, {e, SLAB, 1}, Store::set, gemmScratch);
    else for (uint32_t i = 0; i < n * SLAB; i++) block[i] = 0;
    float weight[kMaxGroup];
    for (uint32_t j = 0; j < n; j++) weight[j] = job.weighted ? *hAt(begin + j, begin + j) : 1;
    for (uint32_t quad = 0; quad < kQuads; quad++) {
      V carried[kMaxGroup], u[kMaxGroup], f[kMaxGroup], error[kMaxGroup], out[kMaxGroup], code[kMaxGroup], t[P];
      for (uint32_t j = 0; j < n; j++) f[j] = carried[j] = load(block + j * SLAB + 4 * quad);
      // U V_BB = F: what the columns would have to be to cancel the errors before them.
      for (uint32_t j = 0; j < n; j++) {
        const float* v = vAt(begin + j, begin);
        f[j] = mul(f[j], splat(1 / v[j]));
        u[j] = add(load(w + (begin + j) * SLAB + 4 * quad), f[j]);
        for (uint32_t k = j + 1; k < n; k++) f[k] = sub(f[k], mul(f[j], splat(v[k])));
      }
      fit(u, weight, n, t);
      grid.use(t);
      if (job.fixedCodes) for (uint32_t j = 0; j < n; j++) code[j] = grid.nearestCode(u[j]);
      V least = roundColumns(begin, n, quad, carried, error, code, out);
      keep(g, begin, n, quad, t, error, code, wasm_i32x4_splat(-1));
      for (uint32_t round = 0; round < job.refits; round++) {
        refit(begin, n, code, out, t);
        grid.use(t);
        const V sum = roundColumns(begin, n, quad, carried, error, code, out), better = wasm_f32x4_lt(sum, least);
        if (!wasm_v128_any_true(better)) break;
        keep(g, begin, n, quad, t, error, code, better);
        least = select(better, sum, least);
      }
    }
  }

  // Without data: the level nearest to each weight.
  void roundAlone(uint32_t g, uint32_t begin, uint32_t n) {
    float weight[kMaxGroup];
    for (uint32_t j = 0; j < n; j++) weight[j] = 1;
    for (uint32_t quad = 0; quad < kQuads; quad++) {
      V u[kMaxGroup], error[kMaxGroup], code[kMaxGroup], t[P];
      for (uint32_t j = 0; j < n; j++) u[j] = load(w + (begin + j) * SLAB + 4 * quad);
      fit(u, weight, n, t);
      grid.use(t);
      for (uint32_t j = 0; j < n; j++) {
        code[j] = grid.nearestCode(u[j]);
        error[j] = sub(u[j], grid.level(code[j]));
      }
      keep(g, begin, n, quad, t, error, code, wasm_i32x4_splat(-1));
    }
  }

  void keep(uint32_t g, uint32_t begin, uint32_t n, uint32_t quad, const V* t, const V* error, const V* code, V which) {
    for (uint32_t j = 0; j < n; j++) {
      const size_t at = (begin + j) * SLAB + 4 * quad;
      store(e + at, select(which, error[j], load(e + at)));
      storeCode(codes + at, select(which, code[j], loadCode(codes + at)));
    }
    V was[P];
    loadTheta(g, quad, was);
    for (uint32_t a = 0; a < P; a++) was[a] = select(which, t[a], was[a]);
    storeTheta(g, quad, was);
  }

  // theta += the least-squares correction in the metric V_BB V_BBᵀ, where `out` is what is left in it.
  void refit(uint32_t begin, uint32_t n, const V* code, const V* out, V* t) {
    V f[P][kMaxGroup], a[P][P], b[P];
    for (uint32_t i = 0; i < P; i++) {
      for (uint32_t j = 0; j < n; j++) f[i][j] = splat(0);
      for (uint32_t j = 0; j < n; j++) {
        const float* v = vAt(begin + j, begin);
        const V x = grid.phi(code[j], i);
        for (uint32_t k = j; k < n; k++) f[i][k] = add(f[i][k], mul(x, splat(v[k])));
      }
      b[i] = splat(0);
      for (uint32_t j = 0; j < n; j++) b[i] = add(b[i], mul(f[i][j], out[j]));
      for (uint32_t k = 0; k <= i; k++) {
        a[i][k] = splat(0);
        for (uint32_t j = 0; j < n; j++) a[i][k] = add(a[i][k], mul(f[i][j], f[k][j]));
      }
    }
    solveLanes<P>(a, b);
    for (uint32_t i = 0; i < P; i++) t[i] = add(t[i], b[i]);
  }

  // ---- Refinement ----

  // block = (E H)[:, group], transposed.
  void gradient(uint32_t begin, uint32_t n) {
    if (!job.h) {
      for (uint32_t i = 0; i < n * SLAB; i++) block[i] = e[begin * SLAB + i];
      return;
    }
    gemm(block, SLAB, n, SLAB, cols, {hAt(begin, 0), cols, 1}, {e, SLAB, 1}, Store::set, gemmScratch);
  }

  // Coordinate descent: each code once, the levels as they are. Returns whether a code has changed.
  bool sweep() {
    V changed = splat(0);
    forGroups([&](uint32_t g, uint32_t begin, uint32_t n) {
      gradient(begin, n);
      for (uint32_t quad = 0; quad < kQuads; quad++) {
        V t[P];
        loadTheta(g, quad, t);
        grid.use(t);
        for (uint32_t j = 0; j < n; j++) {
          const size_t at = (begin + j) * SLAB + 4 * quad;
          const float* h = job.h ? hAt(begin + j, begin) : nullptr;
          const V before = loadCode(codes + at), level = grid.level(before);
          const V code = grid.nearestCode(add(level, mul(load(block + j * SLAB + 4 * quad), splat(h ? 1 / h[j] : 1))));
          const V step = sub(grid.level(code), level), moved = wasm_i32x4_ne(code, before);
          if (!wasm_v128_any_true(moved)) continue;
          changed = wasm_v128_or(changed, moved);
          storeCode(codes + at, code);
          store(e + at, sub(load(e + at), step));
          for (uint32_t k = j + 1; h && k < n; k++) {
            float* to = block + k * SLAB + 4 * quad;
            store(to, sub(load(to), mul(step, splat(h[k]))));
          }
        }
      }
    });
    return wasm_v128_any_true(changed);
  }

  // E = W - level for all columns.
  void measure() {
    forGroups([&](uint32_t g, uint32_t begin, uint32_t n) {
      for (uint32_t quad = 0; quad < kQuads; quad++) {
        V t[P];
        loadTheta(g, quad, t);
        grid.use(t);
        for (size_t at = begin * SLAB + 4 * quad, end = at + n * SLAB; at < end; at += SLAB) store(e + at, sub(load(w + at), grid.level(loadCode(codes + at))));
      }
    });
  }

  // tr(E H Eᵀ), row by row.
  void objective(float* rows) {
    for (uint32_t r = 0; r < SLAB; r++) rows[r] = 0;
    forGroups([&](uint32_t, uint32_t begin, uint32_t n) {
      gradient(begin, n);
      for (uint32_t j = 0; j < n * SLAB; j++) rows[j % SLAB] += block[j] * e[begin * SLAB + j];
    });
  }

  // Joint least squares over all parameters of a row: A = Φᵀ H Φ, b = Φᵀ H Eᵀ. Rows whose objective would grow stay.
  void fitAll() {
    const uint32_t unknowns = groups * P;
    const size_t size = triangle(unknowns);
    float before[SLAB], after[SLAB];
    for (uint32_t r = 0; r < SLAB; r++) before[r] = 0;
    forGroups([&](uint32_t g, uint32_t begin, uint32_t n) {
      gradient(begin, n);
      for (uint32_t j = 0; j < n * SLAB; j++) before[j % SLAB] += block[j] * e[begin * SLAB + j];
      for (uint32_t a = 0; a < P; a++) {
        for (uint32_t quad = 0; quad < kQuads; quad++) {
          V sum = splat(0);
          for (uint32_t j = 0; j < n; j++) {
            const V f = grid.phi(loadCode(codes + (begin + j) * SLAB + 4 * quad), a);
            store(phi + j * SLAB + 4 * quad, f);
            sum = add(sum, mul(f, load(block + j * SLAB + 4 * quad)));
          }
          store(right + (quad * unknowns + g * P + a) * 4, sum);
        }
        // (H Φ)[from the group on, this column of Φ]
        gemm(products, SLAB, cols - begin, SLAB, n, {hAt(begin, begin), cols, 1}, {phi, SLAB, 1}, Store::set, gemmScratch);
        forGroups([&](uint32_t g2, uint32_t begin2, uint32_t n2) {
          if (g2 < g) return;
          for (uint32_t b = g2 == g ? a : 0; b < P; b++) {
            const size_t row = g2 * P + b, at = row * (row + 1) / 2 + g * P + a;
            for (uint32_t quad = 0; quad < kQuads; quad++) {
              V sum = splat(0);
              for (uint32_t j = 0; j < n2; j++) {
                const V f = grid.phi(loadCode(codes + (begin2 + j) * SLAB + 4 * quad), b);
                sum = add(sum, mul(f, load(products + (begin2 - begin + j) * SLAB + 4 * quad)));
              }
              store(normal + (quad * size + at) * 4, sum);
            }
          }
        });
      }
    });
    for (uint32_t i = 0; i < unknowns * SLAB; i++) old[i] = theta[i];
    for (uint32_t quad = 0; quad < kQuads; quad++) {
      V* x = reinterpret_cast<V*>(right) + quad * unknowns;
      solveLanes(reinterpret_cast<V*>(normal) + quad * size, x, unknowns);
      for (uint32_t i = 0; i < unknowns; i++) store(theta + i * SLAB + 4 * quad, add(load(theta + i * SLAB + 4 * quad), x[i]));
    }
    measure();
    objective(after);
    for (uint32_t r = 0; r < SLAB; r++) {
      if (after[r] <= before[r]) continue;
      for (uint32_t i = 0; i < unknowns; i++) theta[i * SLAB + r] = old[i * SLAB + r];
    }
    measure();
  }

  // ---- Coded parameters ----

  // Six bits each: the middle signed, scales made positive and unsigned, times a half for the row and kind of parameter.
  void codeParams(uint32_t first, uint32_t rows) {
    makePositive();
    for (uint32_t a = 0; a < P; a++) {
      const float top = a == 0 ? 31 : 63;
      for (uint32_t r = 0; r < SLAB; r++) {
        float largest = 0;
        for (uint32_t g = 0; g < groups; g++) {
          const float x = absolute(theta[(g * P + a) * SLAB + r]);
          largest = largest < x ? x : largest;
        }
        const float scale = nearestHalf(largest / top), inverse = scale > 0 ? 1 / scale : 0;
        for (uint32_t g = 0; g < groups; g++) {
          float& x = theta[(g * P + a) * SLAB + r];
          const float q = nearest(x * inverse);
          x = (q > top ? top : q < -top ? -top : q) * scale;
        }
        if (r < rows) job.rowScales[static_cast<size_t>(first + r) * P + a] = scale;
      }
    }
    measure();
  }

  void makePositive() {
    forGroups([&](uint32_t g, uint32_t begin, uint32_t n) {
      for (uint32_t a = 1; a < P; a++) {
        for (uint32_t quad = 0; quad < kQuads; quad++) {
          float* t = theta + (g * P + a) * SLAB + 4 * quad;
          const V negative = wasm_f32x4_lt(load(t), splat(0));
          if (!wasm_v128_any_true(negative)) continue;
          store(t, wasm_f32x4_abs(load(t)));
          for (size_t at = begin * SLAB + 4 * quad, end = at + n * SLAB; at < end; at += SLAB) storeCode(codes + at, grid.flipped(loadCode(codes + at), a, negative));
        }
      }
    });
  }

  void write(uint32_t first, uint32_t rows) {
    float errors[SLAB];
    objective(errors);
    for (uint32_t r = 0; r < rows; r++) {
      const size_t row = first + r;
      job.error[row] = errors[r];
      for (uint32_t j = 0; j < cols; j++) {
        job.codes[row * cols + job.order[j]] = codes[j * SLAB + r];
        job.weights[row * cols + job.order[j]] = w[j * SLAB + r] - e[j * SLAB + r];
      }
    }
    forGroups([&](uint32_t g, uint32_t begin, uint32_t) {
      const uint32_t stored = job.order[begin] / job.groupSize;
      for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t a = 0; a < P; a++) job.params[(static_cast<size_t>(first + r) * groups + stored) * P + a] = theta[(g * P + a) * SLAB + r];
      }
    });
  }
};

template <class F>
auto withGrid(const Rounding& job, F use) {
  if (job.levels == static_cast<uint32_t>(Levels::uniform)) return use(Uniform(job.planes));
  switch (job.planes) {
    case 1: return use(Planes<1>());
    case 2: return use(Planes<2>());
    case 3: return use(Planes<3>());
    default: return use(Planes<4>());
  }
}

}  // namespace

uint32_t paramsOf(const Rounding& job) {
  return withGrid(job, [](auto grid) -> uint32_t { return decltype(grid)::kParams; });
}

uint64_t slabBytes(const Rounding& job) {
  return withGrid(job, [&](auto grid) -> uint64_t { return reinterpret_cast<uintptr_t>(Slab(job, grid, nullptr).bytes); });
}

void roundSlab(const Rounding& job, uint32_t slab, uint8_t* scratch) {
  withGrid(job, [&](auto grid) { Slab(job, grid, scratch).run(SLAB * slab); });
}

}  // namespace lutra::quant
