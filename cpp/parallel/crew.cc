#include "parallel/crew.h"
#include "parallel/tickets.h"
#include "model/forward.h"

namespace lutra {

#ifndef LUTRA_SHARED

bool crewRun(uint32_t from, uint32_t to, uint32_t) {
  for (uint32_t step = from; step < to; step++) forwardStep(step, 0, 1, nullptr);
  return true;
}
void crewFollow(uint32_t) {}
void crewCores(uint32_t) {}
void crewDismiss() {}
void crewFail() {}
uint32_t takeTicket(uint32_t* counter) { return (*counter)++; }

#else

namespace {

// A word that others wait on, alone on its cache line. Each has one writer.
struct alignas(64) Signal {
  uint32_t value;
  uint32_t sleeping;  // somebody may be asleep
};

Signal orders;                // rank 0: counts the runs given out
Signal release;               // rank 0: counts the barriers passed
Signal arrival[MAX_THREADS];  // rank r: the barrier it has reached
// Volatile, as LLVM takes a global whose address is nowhere taken to be unchanged by a function that only waits.
volatile uint32_t from, to, ranks;  // of the current run
volatile uint32_t cores;
uint32_t dismissed, failed;

// Three counters in turn: while a step draws from one, rank 0 clears the next; the third may still be in use by the step before.
struct alignas(64) Tickets {
  uint32_t next;
} tickets[3];

// V8 11 (Node 20): in a function that its baseline compiler has made, an atomic operation can overwrite the register of
// a local variable (here it was the end of a loop). So each is a function of its own, in which no local lives on.
#define LUTRA_ALONE __attribute__((noinline))
LUTRA_ALONE uint32_t get(const uint32_t* p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
LUTRA_ALONE void set(uint32_t* p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
LUTRA_ALONE void sleep(Signal& s, uint32_t value, int64_t ns) {
  __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int32_t*>(&s.value), static_cast<int32_t>(value), ns);
}
LUTRA_ALONE uint32_t add(uint32_t* p) { return __atomic_fetch_add(p, 1, __ATOMIC_SEQ_CST); }
LUTRA_ALONE void wake(Signal& s) { __builtin_wasm_memory_atomic_notify(reinterpret_cast<int32_t*>(&s.value), ~0u); }

bool stopped() { return get(&dismissed) || get(&failed); }

void change(Signal& s, uint32_t value) {
  set(&s.value, value);
  if (get(&s.sleeping)) {
    set(&s.sleeping, 0);
    wake(s);
  }
}

// Waking a sleeping worker takes 10 to 100 us, in which the others may fall asleep over their wait for it; a spinning one notices
// within 0.1 us. So spin for longer than workers of one step lie apart, and for about as long as the host's work between two
// tokens takes (a spin: 1.4 ns on a server), then sleep. Where workers are more than cores, soon: the one waited for may need this core.
constexpr uint32_t kSpins = 100000, kFewSpins = 2000;
constexpr int64_t kLookUpEvery = 100'000'000;  // ns: a sleeper looks around, in case the one it waits for died
constexpr uint32_t kPatience = 600;            // looks, a minute: no step takes that long

// Waits until done(value), or the crew has stopped. With `patience` 0 for as long as it takes.
template <class Done> void await(Signal& s, uint32_t patience, Done done) {
  for (uint32_t spins = ranks > cores ? kFewSpins : kSpins, i = 0; i < spins; i++) {
    if (done(get(&s.value)) || stopped()) return;
  }
  for (uint32_t looks = 1;; looks++) {
    set(&s.sleeping, 1);
    const uint32_t value = get(&s.value);
    if (done(value) || stopped()) return;
    sleep(s, value, kLookUpEvery);
    if (patience && looks == patience) set(&failed, 1);
  }
}

// Rank 0 collects the others, then lets them go.
void join(uint32_t rank, uint32_t n) {
  const uint32_t next = get(&release.value) + 1;
  if (rank == 0) {
    for (uint32_t r = 1; r < n; r++) await(arrival[r], kPatience, [&](uint32_t reached) { return reached == next; });
    change(release, next);
  } else {
    change(arrival[rank], next);
    await(release, kPatience, [&](uint32_t passed) { return passed == next; });
  }
}

void runSteps(uint32_t rank) {
  const uint32_t n = ranks, end = to;
  for (uint32_t step = from; step < end && !stopped(); step++) {
    if (rank == 0) set(&tickets[(step + 1) % 3].next, 0);
    forwardStep(step, rank, n, &tickets[step % 3].next);
    if (n > 1) join(rank, n);
  }
}

}  // namespace

bool crewRun(uint32_t first, uint32_t last, uint32_t n) {
  from = first, to = last, ranks = n;
  set(&tickets[first % 3].next, 0);
  if (n > 1) change(orders, get(&orders.value) + 1);
  runSteps(0);
  return !stopped();
}

void crewFollow(uint32_t rank) {
  for (uint32_t seen = 0;;) {
    await(orders, 0, [&](uint32_t given) { return given != seen; });
    if (stopped()) return;
    seen = get(&orders.value);
    if (rank < ranks) runSteps(rank);
  }
}

static void stop(uint32_t* why) {
  set(why, 1);
  wake(orders);
  wake(release);
  for (Signal& s : arrival) wake(s);
}
void crewCores(uint32_t n) { cores = n; }
uint32_t takeTicket(uint32_t* counter) { return add(counter); }

void crewDismiss() { stop(&dismissed); }
void crewFail() { stop(&failed); }

#endif

}  // namespace lutra
