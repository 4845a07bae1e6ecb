// From logits to a token, and what tests and evaluation ask of logits. One thread, scalar, the same bits everywhere.
#pragma once
#include "generated/layout.h"

namespace lutra {

// Draws a token: repetition penalty (CTRL: positive logits divided, negative multiplied) and bias, top-k, temperature,
// softmax, top-p (the shortest prefix of the likeliest that holds topP of the mass), min-p (relative to the likeliest).
// Ties go to the lower id. The random number is a function of seed and step alone.
// work: [vocab] floats and [vocab] ids.
uint32_t sampleToken(const float* logits, uint32_t vocab, const Sampling& options, float* work, uint32_t* ids);

// ln softmax(logits)[token]
double logProbabilityOf(const float* logits, uint32_t vocab, uint32_t token);

// Continues a hash over the bits of the logits.
uint64_t hashBits(const float* logits, uint32_t vocab, uint64_t hash);

}  // namespace lutra
