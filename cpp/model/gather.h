// One row of a linear layer as f32: what an embedding is asked for.
#pragma once
#include "ops.h"

namespace lutra {

// x[k] = weight of `row`, column k, of any layout, rounded once.                                    x: [l.cols]
void gatherRow(const Linear& l, uint32_t row, float* x);

}  // namespace lutra
