// A crew over one shared memory: rank 0 gives out runs of steps, the others follow; a barrier after every step.
// Without shared memory there is only rank 0 and nothing waits.
#pragma once
#include <stdint.h>

namespace lutra {

// Runs steps [from, to) of the current pass on ranks 0 .. ranks - 1. False if a member died: the crew is then unusable.
bool crewRun(uint32_t from, uint32_t to, uint32_t ranks);
// What the other ranks do all day; returns when the crew is dismissed.
void crewFollow(uint32_t rank);
// How many workers can run at the same time.
void crewCores(uint32_t n);
void crewDismiss();
// Tells everybody that a member died.
void crewFail();

}  // namespace lutra
