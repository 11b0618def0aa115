#pragma once
// What a decoded kernel is made of. Shared by the files kernel*.cpp only.

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "pto_wsp/kernel.hpp"
#include "pto_wsp/tile_ops.hpp"

namespace pto_wsp {

// A number of rows or columns: a constant, or what a tile argument has. Dimensions of parameters that can only be 1 are
// constants from decoding on.
struct DimRef {
  std::int32_t param = -1;     // -1: constant
  std::int32_t value = 0;      // the constant, or the parameter's static size
  bool is_cols = false;
  bool operator==(const DimRef&) const = default;
};

inline std::int32_t resolve(const DimRef& d, std::span<const Arg> args) noexcept {
  if (d.param < 0) return d.value;
  const TileArg& t = args[static_cast<std::size_t>(d.param)].tile;
  return d.is_cols ? t.cols : t.rows;
}

struct Check {
  bool at_least;  // a >= b, else a == b
  DimRef a, b;
};

struct Value {
  DType dtype;
  std::int32_t rows, cols;
  DimRef valid_rows, valid_cols;
};

struct Source {
  enum class Kind : std::uint8_t { value, literal, param } kind;
  std::uint32_t index = 0;  // of a value or a parameter
  double literal = 0;
};

struct Instr {
  Op op;
  std::int32_t dst = -1;  // -1: none (store)
  std::uint8_t n_src = 0, imm = 0;
  std::array<std::int32_t, 3> at = {};
  std::array<Source, 3> src = {};
  DType operand = DType::f32;  // the type the operation works on
  DimRef inner, outer;         // as in OpArgs
  bool whole = false;          // a row of the result needs more than the same row of the operands
};

struct CostOp {
  std::uint8_t code;
  std::int64_t constant = 0;
  DimRef dim;
};

// The kernel as the plan states it, verified.
struct Program {
  std::string name;
  std::vector<Param> params;
  std::vector<Check> checks;
  std::vector<Value> values;
  std::vector<Instr> instrs;
  std::vector<CostOp> cost;
};

// Where an operand lies: base + offset, its rows `stride` apart (plus the row stride of the base, when that is a parameter).
struct Place {
  std::uint32_t base = 0;      // 0: scratch, 1: constants, 2 + p: parameter p
  std::int64_t offset = 0;
  std::int64_t stride = 0;
  std::int64_t stride_mask = -1;   // 0: all rows are the same one
  std::int64_t advance_mask = -1;  // 0: holds one strip, does not move with it
};

struct Step {
  std::array<OpFn, isa_count> fn = {};
  Place dst;
  std::array<Place, 3> src = {};
  std::uint8_t n_src = 0, bcast = 0, imm = 0;
  std::array<std::int32_t, 3> at = {};
  std::int32_t instr = 0;
  DimRef rows, cols, inner, outer;
};

// Steps first .. first + count, run strip by strip.
struct Group {
  std::uint32_t first = 0, count = 0;
  std::int32_t rows = 1, strip = 1;
};

struct ScalarSlot {
  std::uint32_t param;
  DType dtype;
  std::int64_t offset;  // in scratch
};

// A tile argument that is gathered, or whose columns do not lie side by side, is copied here before, and from here after.
struct Staging {
  std::uint32_t param;
  std::int32_t rows, cols;     // of the parameter
  std::int64_t element_bytes;
  std::int64_t offset;
  std::int64_t stride;
  bool read, written;
};

struct KernelImpl {
  Program program;
  std::vector<std::byte> constants;
  std::vector<Step> steps;
  std::vector<Group> groups;
  bool one_strip = true;  // every group fits a single strip
  std::vector<ScalarSlot> scalars;
  std::vector<Staging> staging;  // one per tile parameter
  std::int64_t work_offset = 0;
  std::size_t scratch_bytes = 0;
  std::optional<std::int64_t> full_cost;  // none: evaluating it failed
  std::string full_cost_error;
};

// kernel_decode.cpp: reads and verifies. Throws PlanError.
Program decode_program(Cursor& in);
// kernel_plan.cpp: decides strips, places and aliases.
void plan_kernel(KernelImpl& kernel);
// kernel.cpp
std::int64_t evaluate_cost(const Program& program, std::span<const Arg> args);

// A number in `dtype`'s bytes; `value` must be one of its values.
void encode_scalar(double value, DType dtype, std::byte* out) noexcept;

}  // namespace pto_wsp
