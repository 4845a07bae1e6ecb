#include "model/sample.h"
#include "math.h"

namespace lutra {
namespace {

// Is candidate a less likely than b? Among equals the lower id counts as likelier.
struct LessLikely {
  const float* logits;
  bool operator()(uint32_t a, uint32_t b) const { return logits[a] != logits[b] ? logits[a] < logits[b] : a > b; }
};

// Binary heap with the "largest" element by `less` on top.
template <class Less> void siftDown(uint32_t* heap, uint32_t n, uint32_t i, Less less) {
  const uint32_t moving = heap[i];
  for (uint32_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
    if (child + 1 < n && less(heap[child], heap[child + 1])) child++;
    if (!less(moving, heap[child])) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = moving;
}
template <class Less> void makeHeap(uint32_t* heap, uint32_t n, Less less) {
  for (uint32_t i = n / 2; i-- > 0;) siftDown(heap, n, i, less);
}

// Uniform in [0, 1): SplitMix64 of seed and step.
double uniform(uint64_t seed, uint64_t step) {
  uint64_t z = seed + (step + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

// The largest of n values; lanes, so that it is one of SIMD instructions.
float largest(const float* x, uint32_t n) {
  constexpr uint32_t kLanes = 16;
  float lanes[kLanes];
  for (float& lane : lanes) lane = x[0];
  uint32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (uint32_t j = 0; j < kLanes; j++) lanes[j] = lanes[j] < x[i + j] ? x[i + j] : lanes[j];
  }
  float most = lanes[0];
  for (const float lane : lanes) most = most < lane ? lane : most;
  for (; i < n; i++) most = most < x[i] ? x[i] : most;
  return most;
}

}  // namespace

uint32_t sampleToken(const float* logits, uint32_t vocab, const Sampling& o, float* work, uint32_t* ids) {
  for (uint32_t i = 0; i < vocab; i++) work[i] = o.bias ? logits[i] + o.bias[i] : logits[i];
  if (o.repetitionPenalty != 1.0f) {
    for (uint32_t i = 0; i < o.nRecent; i++) {
      const uint32_t id = o.recent[i];
      bool seen = id >= vocab;
      for (uint32_t j = 0; j < i && !seen; j++) seen = o.recent[j] == id;
      if (!seen) work[id] = work[id] > 0 ? work[id] / o.repetitionPenalty : work[id] * o.repetitionPenalty;
    }
  }
  const LessLikely less{work};
  const float peak = largest(work, vocab);
  uint32_t best = 0;
  while (best + 1 < vocab && work[best] < peak) best++;
  if (!(o.temperature > 0)) return best;

  // Candidates: all, or the topK likeliest, kept in a heap whose top is the least likely of them.
  uint32_t n = o.topK && o.topK < vocab ? o.topK : vocab;
  for (uint32_t i = 0; i < n; i++) ids[i] = i;
  if (n < vocab) {
    const auto more = [&](uint32_t a, uint32_t b) { return less(b, a); };
    makeHeap(ids, n, more);
    float least = work[ids[0]];
    for (uint32_t i = n; i < vocab; i++) {
      if (!(least < work[i])) continue;  // those before it count as likelier
      ids[0] = i;
      siftDown(ids, n, 0, more);
      least = work[ids[0]];
    }
  }
  makeHeap(ids, n, less);

  const float inverse = 1.0f / o.temperature;
  double total = 0;
  for (uint32_t i = 0; i < n; i++) total += exponential((work[ids[i]] - peak) * inverse);
  // Take from the top, likeliest first, until topP or minP says enough; the taken ones collect behind the heap.
  double kept = 0;
  uint32_t left = n;
  while (left > 0) {
    const float p = exponential((work[ids[0]] - peak) * inverse);
    if (left < n && p < o.minP) break;
    kept += p;
    const uint32_t taken = ids[0];
    ids[0] = ids[--left];
    siftDown(ids, left, 0, less);
    ids[left] = taken;
    if (kept >= o.topP * total) break;
  }
  const double target = uniform(o.seed, o.step) * kept;
  double sum = 0;
  for (uint32_t i = n; i-- > left;) {
    sum += exponential((work[ids[i]] - peak) * inverse);
    if (target < sum) return ids[i];
  }
  return best;  // only if rounding left target == kept
}

double logProbabilityOf(const float* logits, uint32_t vocab, uint32_t token) {
  const float peak = largest(logits, vocab);
  double sum = 0;
  for (uint32_t i = 0; i < vocab; i++) sum += exponential(logits[i] - peak);
  return static_cast<double>(logits[token] - peak) - logarithm64(sum);
}

uint64_t hashBits(const float* logits, uint32_t vocab, uint64_t hash) {
  for (uint32_t i = 0; i < vocab; i++) {
    hash = ((hash << 5 | hash >> 59) ^ floatToBits(logits[i])) * 0x517cc1b727220a95ull;
  }
  return hash;
}

}  // namespace lutra
