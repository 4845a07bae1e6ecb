#include "parallel/crew.h"
#include "model/forward.h"

namespace lutra {

#ifndef LUTRA_SHARED

bool crewRun(uint32_t from, uint32_t to, uint32_t) {
  for (uint32_t step = from; step < to; step++) forwardStep(step, 0, 1);
  return true;
}
void crewFollow(uint32_t) {}
void crewDismiss() {}
void crewFail() {}

#else

namespace {

// A word that is waited on, alone on its cache line.
struct alignas(64) Signal {
  uint32_t value;
  uint32_t sleepers;
};

Signal orders;   // counts the runs given out
Signal barrier;  // counts the barriers passed
alignas(64) uint32_t arrived;
uint32_t from, to, ranks;  // of the current run
uint32_t dismissed, failed;

uint32_t get(const uint32_t* p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
void set(uint32_t* p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }

// Waking a sleeping worker takes 10 us, a spinning one notices within 0.1 us: spin for about as long as a step or the
// host's work between two tokens takes, then sleep.
constexpr uint32_t kSpins = 20000;
constexpr int64_t kLookUpEvery = 100'000'000;  // ns: a sleeper looks around, in case the one it waits for died
constexpr uint32_t kPatience = 600;            // looks, a minute: no step takes that long

// With `patience` 0 for as long as it takes.
void awaitChange(Signal& s, uint32_t old, uint32_t patience) {
  for (uint32_t i = 0; i < kSpins; i++) {
    if (get(&s.value) != old || get(&failed)) return;
  }
  __atomic_fetch_add(&s.sleepers, 1, __ATOMIC_SEQ_CST);
  for (uint32_t looks = 0; get(&s.value) == old && !get(&failed); looks++) {
    if (patience && looks == patience) set(&failed, 1);
    __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int32_t*>(&s.value), static_cast<int32_t>(old), kLookUpEvery);
  }
  __atomic_fetch_sub(&s.sleepers, 1, __ATOMIC_SEQ_CST);
}

void change(Signal& s) {
  __atomic_fetch_add(&s.value, 1, __ATOMIC_SEQ_CST);
  if (get(&s.sleepers)) __builtin_wasm_memory_atomic_notify(reinterpret_cast<int32_t*>(&s.value), ~0u);
}

void join(uint32_t n) {
  const uint32_t passed = get(&barrier.value);
  if (__atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST) == n - 1) {
    set(&arrived, 0);
    change(barrier);
  } else {
    awaitChange(barrier, passed, kPatience);
  }
}

void runSteps(uint32_t rank) {
  const uint32_t n = ranks, end = to;
  for (uint32_t step = from; step < end && !get(&failed); step++) {
    forwardStep(step, rank, n);
    if (n > 1) join(n);
  }
}

}  // namespace

bool crewRun(uint32_t first, uint32_t last, uint32_t n) {
  from = first, to = last, ranks = n;
  if (n > 1) change(orders);
  runSteps(0);
  return !get(&failed);
}

void crewFollow(uint32_t rank) {
  uint32_t seen = 0;
  for (;;) {
    awaitChange(orders, seen, 0);
    if (get(&dismissed) || get(&failed)) return;
    seen = get(&orders.value);
    if (rank < ranks) runSteps(rank);
  }
}

void crewDismiss() {
  set(&dismissed, 1);
  change(orders);
}

void crewFail() {
  set(&failed, 1);
  change(orders);
  change(barrier);
}

#endif

}  // namespace lutra
