// Everything the host can call. Addresses and counts cross unsigned; structs are those of layout.json.
// The host checks sizes before it calls (src/engine/plan.ts): a wrong address can at worst damage this instance's memory.
#include "export.h"
#include "kernels/kernels.h"
#include "math.h"
#include "model/forward.h"
#include "model/kv.h"
#include "model/rope.h"
#include "model/sample.h"
#include "parallel/crew.h"

using namespace lutra;

// Name of the kernel that runs a part (C string); 0 if there is none.
LUTRA_EXPORT const char* kernelName(const Part* part) {
  const Kernel* kernel = kernelFor(*part);
  return kernel ? kernel->name : nullptr;
}

// Bytes of workspace, or the largest number if they are more than that; 0: no kernel for one of the layers. The
// sampler's scratch is part of it.
static uint64_t samplerBytes(uint32_t vocab) { return uint64_t{roundUp(vocab, 128)} * 8; }
static uint8_t* samplerScratch;

LUTRA_EXPORT uint32_t workspaceBytes(const Model* model) {
  const uint64_t plan = planForward(*model), bytes = plan ? plan + samplerBytes(model->vocabSize) : 0;
  return bytes < UINT32_MAX ? static_cast<uint32_t>(bytes) : UINT32_MAX;
}
// workspace: zeroed, aligned to ALIGN.
LUTRA_EXPORT void bind(const Model* model, uint8_t* workspace) {
  bindForward(*model, workspace);
  samplerScratch = workspace + planForward(*model);
}

// A pass: begin(rows), then run(steps) until all steps are done; run returns 0 if the crew died.
LUTRA_EXPORT uint32_t begin(const Row* rows, uint32_t m) {
  setRows(rows, m);
  return forwardSteps();
}
LUTRA_EXPORT uint32_t run(uint32_t from, uint32_t to, uint32_t threads) { return crewRun(from, to, threads); }
// What the host has to exchange with other memories after a step; null: nothing.
LUTRA_EXPORT const Exchange* exchange(uint32_t step) { return exchangeAfter(step); }

LUTRA_EXPORT void follow(uint32_t rank) { crewFollow(rank); }
LUTRA_EXPORT void setCores(uint32_t n) { crewCores(n); }
LUTRA_EXPORT void dismiss() { crewDismiss(); }
LUTRA_EXPORT void fail() { crewFail(); }

LUTRA_EXPORT const float* logits(uint32_t i) { return logitsOf(i); }
LUTRA_EXPORT uint32_t sample(uint32_t i, const Sampling* options) {
  float* work = reinterpret_cast<float*>(samplerScratch);
  return sampleToken(logitsOf(i), vocabSize(), *options, work, reinterpret_cast<uint32_t*>(work + roundUp(vocabSize(), 128)));
}
LUTRA_EXPORT double logProbability(uint32_t i, uint32_t token) { return logProbabilityOf(logitsOf(i), vocabSize(), token); }
LUTRA_EXPORT uint64_t hashLogits(uint32_t i, uint64_t hash) { return hashBits(logitsOf(i), vocabSize(), hash); }

// ---- Single operations, for tests, benchmarks and calibration. `reference` picks the form (ops.h). ----

static const Ops& formOf(uint32_t reference) { return reference ? referenceOps : fastOps; }

LUTRA_EXPORT void rmsNorm(float* h, const float* x, const float* w, uint32_t n, float eps, uint32_t reference) {
  formOf(reference).rmsNorm(h, x, w, n, eps);
}
LUTRA_EXPORT void ropeAngles(const Rope* rope, uint32_t headDim, uint32_t position, double* frequencies, float* angles) {
  const double attention = ropeFrequencies(*rope, headDim, frequencies);
  ropeAngles(frequencies, attention, headDim, position, angles);
}
LUTRA_EXPORT void rope(float* head, const float* angles, uint32_t headDim, uint32_t reference) {
  formOf(reference).rope(head, angles, headDim);
}
LUTRA_EXPORT void storeKv(uint32_t type, uint8_t* blocks, uint32_t position, uint32_t headDim, float* k, float* v) {
  storeKv(static_cast<KvType>(type), blocks, position, headDim, k, v);
}
LUTRA_EXPORT uint32_t attendScratch(uint32_t type, uint32_t heads, uint32_t positions, uint32_t headDim) {
  return lutra::attendScratch(static_cast<KvType>(type), heads, positions, headDim);
}
LUTRA_EXPORT void attend(uint32_t type, float* out, const float* q, uint32_t heads, const uint8_t* kv, uint32_t last, uint32_t headDim, float* scratch, uint32_t reference) {
  formOf(reference).attend[type](out, q, heads, kv, last, headDim, scratch);
}
LUTRA_EXPORT void gatedUnit(float* gate, const float* up, uint32_t n, uint32_t activation, uint32_t reference) {
  formOf(reference).gatedUnit(gate, up, n, static_cast<Activation>(activation));
}

// The elementary functions; they have one form, of which the kernels use the same on lanes.
LUTRA_EXPORT float exp32(float x) { return exponential(x); }
LUTRA_EXPORT double exp64(double x) { return exponential64(x); }
LUTRA_EXPORT double ln64(double x) { return logarithm64(x); }
LUTRA_EXPORT double sin64(double x) {
  double sine, cosine;
  sineCosine64(x, &sine, &cosine);
  return sine;
}
LUTRA_EXPORT double cos64(double x) {
  double sine, cosine;
  sineCosine64(x, &sine, &cosine);
  return cosine;
}

// The roof for decoding: reads n bytes in `streams` places at once and does nothing with them.
LUTRA_EXPORT uint32_t readMemory(const uint8_t* p, uint32_t n, uint32_t streams) { return kernels::readMemory(p, n, streams); }

// One linear layer: out[m][padded rows] = layer(x[m][padded columns]). base: linearBytes() of zeroed memory.
static ActsSet alone;
LUTRA_EXPORT uint32_t linearBytes(const Linear* l, uint32_t m) {
  alone.n = 0;
  if (!alone.need(*l)) return 0;
  Arena arena{0};
  arena.take<float>(uint64_t{SEGMENTS} * m * padded(l->rows));
  alone.allocate(arena, m);
  return static_cast<uint32_t>(arena.at);
}
LUTRA_EXPORT void linear(const Linear* l, const float* x, uint32_t m, float* out, void* base, uint32_t reference) {
  alone.n = 0;
  alone.need(*l);
  Arena arena{reinterpret_cast<uintptr_t>(base)};
  float* partial = arena.take<float>(uint64_t{SEGMENTS} * m * padded(l->rows));
  alone.allocate(arena, m);
  const Ops& ops = formOf(reference);
  alone.use(m);
  for (uint32_t i = 0; i < m; i++) prepareActs(ops, alone, alone.mask(*l), x + i * padded(l->cols), l->cols, i, {0, l->cols});
  applyLinear(ops, *l, alone, out, partial, padded(l->rows), {0, tilesOf(l->rows)});
}
