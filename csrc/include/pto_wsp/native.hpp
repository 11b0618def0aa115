#pragma once
// What the runtime and the functions that are compiled for a kernel on the machine agree on.

#include <cstddef>
#include <cstdint>

namespace pto_wsp {

// Memory that operands lie in: scratch, constants, then each parameter, whose rows are `stride` bytes apart.
struct Base {
  std::byte* data;
  std::int64_t stride;
};

// Consecutive steps of a kernel at once, for rows `row` .. `row` + `rows` - 1. `sizes`: the extents that the piece asked for.
using Piece = void (*)(const Base* bases, const std::int32_t* sizes, std::int32_t row, std::int32_t rows);

}  // namespace pto_wsp
