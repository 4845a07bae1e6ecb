// Rotary position embeddings: how fast each pair of dimensions turns, and the angles at a position.
#pragma once
#include "generated/layout.h"

namespace lutra {

// Radians per position for the pairs (i, i + headDim / 2): [headDim / 2]. Returns what cosines and sines are multiplied by.
double ropeFrequencies(const Rope& rope, uint32_t headDim, double* frequencies);

// Cosines, then sines, of the angles at a position, times `attention`: [headDim].
void ropeAngles(const double* frequencies, double attention, uint32_t headDim, uint32_t position, float* angles);

}  // namespace lutra
