// Rounding a matrix to levels so that the layer's output, not the weight, is kept: minimises tr(E H Eᵀ), E = target - rounded.
// Without data h and v are null: H is the identity.
// Rows are independent. A slab of SLAB rows lies transposed, [column][row], so that rows are lanes.
#pragma once
#include "generated/layout.h"

namespace lutra::quant {

constexpr uint32_t SLAB = 64;

uint32_t paramsOf(const Rounding& job);
// Bytes of scratch for one slab.
uint64_t slabBytes(const Rounding& job);
// Rounds rows [SLAB * slab, SLAB * (slab + 1)).
void roundSlab(const Rounding& job, uint32_t slab, uint8_t* scratch);

}  // namespace lutra::quant
