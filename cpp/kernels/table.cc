// The one place that says which code runs which weights. How finely tables are rounded per bit width is the measured
// choice, see docs/architecture.md.
#include "kernels/kernels.h"
#include "reference/reference.h"

namespace lutra {
namespace {

#define LUTRA_ROW(P, A, C, NAME) \
  {NAME, Layout::planes, P, Coding::C, Prep::A, kernels::matMulPlanes<P, Prep::A, Coding::C>}
#define LUTRA_ROWS(P, A) \
  LUTRA_ROW(P, A, i16, "planes" #P "-i16-" #A), LUTRA_ROW(P, A, f16, "planes" #P "-f16-" #A), LUTRA_ROW(P, A, f32, "planes" #P "-f32-" #A)
#define LUTRA_UNIFORM(P, A, C) \
  {"uniform" #P "-" #C "-" #A, Layout::uniform, P, Coding::C, Prep::A, kernels::matMulUniform<P, Prep::A, Coding::C>}

const Kernel kKernels[] = {
    LUTRA_ROWS(1, lut7),
    LUTRA_ROWS(2, lut7),
    LUTRA_ROWS(3, exact),
    LUTRA_ROWS(4, lut8),
    LUTRA_UNIFORM(1, lut7, i6), LUTRA_UNIFORM(2, lut7, i6), LUTRA_UNIFORM(3, exact, i6), LUTRA_UNIFORM(4, lut8, i6),
    LUTRA_UNIFORM(2, lut7, f32), LUTRA_UNIFORM(3, exact, f32), LUTRA_UNIFORM(4, lut8, f32),
    LUTRA_UNIFORM(4, lut8, f16), LUTRA_UNIFORM(5, lut8, f16), LUTRA_UNIFORM(4, lut8, f16mid), LUTRA_UNIFORM(5, lut8, f16mid),
    LUTRA_UNIFORM(2, lut7, k4), LUTRA_UNIFORM(4, lut8, k6), LUTRA_UNIFORM(5, lut8, k6), LUTRA_UNIFORM(3, exact, k8), LUTRA_UNIFORM(6, lut8, k8),
    {"ternary", Layout::ternary, 2, Coding::none, Prep::i8, kernels::matMulTernary<Coding::none>},
    {"ternary-f32", Layout::ternary, 2, Coding::f32, Prep::i8, kernels::matMulTernary<Coding::f32>},
    {"ternary-f16", Layout::ternary, 2, Coding::f16, Prep::i8, kernels::matMulTernary<Coding::f16>},
    {"int8", Layout::int8, 0, Coding::none, Prep::i16, kernels::matMulInt8},
    {"int8-f16", Layout::int8, 0, Coding::f16, Prep::i16, kernels::matMulInt8Groups},
    {"f32", Layout::f32, 0, Coding::none, Prep::f32, kernels::matMulF32},
};

#undef LUTRA_UNIFORM
#undef LUTRA_ROWS
#undef LUTRA_ROW

}  // namespace

const Kernel* kernelFor(const Part& part) {
  for (const Kernel& k : kKernels) {
    if (static_cast<uint32_t>(k.layout) == part.layout && k.planes == part.planes && static_cast<uint32_t>(k.coding) == part.coding) return &k;
  }
  return nullptr;
}

const Ops fastOps = {
    {nullptr, nullptr, nullptr, nullptr, nullptr},
    {kernels::prepareF32, kernels::prepareI16, kernels::prepareI8, kernels::prepareLut7, kernels::prepareLut8, kernels::prepareExact},
    kernels::rmsNorm, kernels::rope, {kernels::attendF32, kernels::attendInt8}, kernels::gatedUnit};

const Ops referenceOps = {
    {reference::matMulF32, reference::matMulInt8, reference::matMulPlanes, reference::matMulTernary, reference::matMulUniform},
    {reference::prepareF32, reference::prepareI16, reference::prepareI8, reference::prepareLut7, reference::prepareLut8, reference::prepareExact},
    reference::rmsNorm, reference::rope, {reference::attendF32, reference::attendInt8}, reference::gatedUnit};

}  // namespace lutra
