// Numbers that the workers of a crew draw, each once.
#pragma once
#include <stdint.h>

namespace lutra {
uint32_t takeTicket(uint32_t* counter);
}  // namespace lutra
