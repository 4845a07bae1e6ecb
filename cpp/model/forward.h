// The forward pass of a Llama-type transformer as a list of steps. Between two steps every worker waits for the others
// (a join): a crew over one shared memory runs many steps in a row with barriers. A model may be sliced: this memory then
// holds some rows of each matrix (whole heads of q, k, v; the embedding only where it begins), of o and down where possible
// all rows of some column segments instead, and what they give is exchanged with the other memories, by the host, after
// some of the steps. Rows and segments are summed as ever, so bits stay as they are.
#pragma once
#include "model/linear.h"

namespace lutra {

// Bytes of workspace the model needs; 0 if a layer has no kernel.
uint64_t planForward(const Model& model);
// Lays the workspace out at `base` (zeroed memory of that size).
void bindForward(const Model& model, void* base);

// The rows of the next pass. They are copied. m <= MAX_ROWS.
void setRows(const Row* rows, uint32_t m);
uint32_t forwardSteps();
// tickets: zero when the step begins, shared by all ranks; unused with one.
void forwardStep(uint32_t step, uint32_t rank, uint32_t ranks, uint32_t* tickets);

// What a sliced model exchanges after `step`, null: nothing. values[m][ld]: columns [begin, end) were made here, all of
// [0, width) are read next; by everybody (allGather, or broadcast where one has made them all) or by the first (gather).
const Exchange* exchangeAfter(uint32_t step);

// Logits of the i-th row that wanted them: [vocabSize].
float* logitsOf(uint32_t i);
uint32_t vocabSize();

}  // namespace lutra
