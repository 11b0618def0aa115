#pragma once
// What a decoded kernel is made of. Shared by the files kernel*.cpp only.

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "pto_wsp/kernel.hpp"
#include "pto_wsp/scalar.hpp"
#include "pto_wsp/tile_ops.hpp"

namespace pto_wsp {

// A number of rows or columns: a constant, what a tile or region argument has, or what a register holds. Dimensions of
// parameters that can only be 1 are constants from decoding on.
struct DimRef {
  enum class Kind : std::uint8_t { constant, tile, region, reg };
  std::int32_t param = -1;     // or the register; -1: constant
  std::int32_t value = 0;      // the constant, or the most it can be
  std::uint8_t dim = 0;        // of a tile: 0 rows, 1 columns
  Kind kind = Kind::constant;
  bool operator==(const DimRef&) const = default;

  static constexpr DimRef of(std::int32_t n) { return {-1, n, 0, Kind::constant}; }
  static constexpr DimRef tile(std::uint32_t param, std::int32_t size, bool is_cols) {
    return {static_cast<std::int32_t>(param), size, static_cast<std::uint8_t>(is_cols ? 1 : 0), Kind::tile};
  }
  bool is_constant() const { return kind == Kind::constant; }
};

inline std::int32_t resolve(const DimRef& d, std::span<const Arg> args, const std::int64_t* regs) noexcept {
  if (d.param < 0) return d.value;
  const auto param = static_cast<std::size_t>(d.param);
  if (d.kind == DimRef::Kind::tile) return d.dim != 0 ? args[param].tile.cols : args[param].tile.rows;
  return d.kind == DimRef::Kind::region ? args[param].region.length[d.dim] : static_cast<std::int32_t>(regs[param]);
}

// Arguments of a kernel, at most.
inline constexpr std::size_t most_args = 256;
// Bases of memory: scratch, constants, and one for each parameter.
inline constexpr std::size_t max_bases = 1024;

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
  std::uint64_t literal = 0;  // 64 bits of scalar_of(dtype)
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
  std::int32_t origin = -1;    // as in a Fault
};

// A scalar operand of 64 bits.
struct Scalar {
  bool constant = true;
  std::uint32_t reg = 0;
  std::uint64_t bits = 0;
};

inline std::uint64_t value_of(const Scalar& s, const std::int64_t* regs) noexcept { return s.constant ? s.bits : static_cast<std::uint64_t>(regs[s.reg]); }

// Equations over registers, and over memory by them, in order between segments of tile operations.
struct ScalarEqn {
  enum class Kind : std::uint8_t { compute, dim, widen, narrow, element, part, store_part, extent, check, print, round } kind{};
  std::uint32_t reg = 0;               // the result; extent: what is checked to be 1 .. `most`
  std::int32_t origin = -1;
  ScalarOp op{};                       // compute
  DType type{}, to{};                  // compute; narrow, round, print: `to` is the dtype of tiles, `type` of the register
  bool checked = false;
  std::array<Scalar, max_region_dims> operands = {};  // element, part, store_part: indices; round: what is made one that `to` holds
  // dim: `a`. check: a == b or a >= b. part, store_part, element, print of a value: its valid rows and columns
  DimRef a, b;
  std::int32_t most = 0;
  bool at_least = false;
  std::uint32_t param = 0;             // widen: the scalar parameter; narrow: the one it makes; part, store_part, element: the memory
  std::int32_t value = -1;             // element, store_part, print: a tile value; element: -1 reads the parameter
  std::uint32_t target = 0;            // part: the parameter that stands for it
  bool counts = false;                 // a cost depends on it
  bool copied = false;                 // part: what is loaded may be stored to later
  std::string label;                   // print
};

// Instructions first .. first + count, in groups once planned.
struct Segment {
  std::uint32_t first = 0, count = 0;
  std::uint32_t first_group = 0, n_groups = 0;
  bool one_strip = true;
};

struct Carry {
  std::uint32_t reg = 0, out = 0;      // of a scalar: what it is called inside, and after
  Scalar init, yield;
};

struct CostOp {
  std::uint8_t code;
  std::int64_t constant = 0;
  DimRef dim;
};

// An expression of cycles, as code for a stack; the registers that it names; and its number among those of the kernel.
struct Cycles {
  std::vector<CostOp> code;
  std::vector<std::uint32_t> regs;
  std::uint32_t number = 0;
};

// An equation in model pipes: the unit that it takes, core_units where it takes none, and for how long; what must be there before,
// and what is there after. Values, registers and arguments have numbers, in this order.
inline constexpr std::size_t core_units = 4;
inline constexpr std::uint32_t no_value = UINT32_MAX;
struct Work {
  std::uint8_t unit = core_units;
  Cycles cycles;
  std::vector<std::uint32_t> reads, writes;
};

// What happens one after the other, and what the operations of it alone cost.
struct Block {
  struct Item {
    enum class Kind : std::uint8_t { segment, scalar, loop, branch } kind;
    std::uint32_t index;
  };
  std::vector<Item> items;
  Cycles cost;                         // model serial
  struct Event {
    bool is_work;
    std::uint32_t index;               // in `works` or `items`
  };
  std::vector<Event> events;           // model pipes: in the order of the equations
  std::vector<Work> works;
};

// The number of a value in a loop that carries it; no_value: a constant.
struct Flow {
  std::uint32_t init, inside, yield, out;
};

inline constexpr std::uint64_t most_trips = INT32_MAX;
struct Loop {
  std::uint32_t index = 0;             // register
  Scalar lo, hi;
  std::vector<Carry> carries;          // scalars; tiles go through memory of their own
  std::vector<Flow> flows;             // model pipes
  std::uint32_t body = 0;              // block
  bool uniform = false;                // every trip costs the same
  std::int32_t origin = -1;
};

struct Branch {
  Scalar condition;
  bool data = false;                   // the condition is known only when the task runs
  std::array<std::uint32_t, 2> blocks = {};
  std::vector<std::array<Carry, 2>> outs;  // scalars: the `yield` of each side goes to `out`
  std::vector<std::array<std::uint32_t, 3>> flows;  // model pipes: the numbers of what each side gives, and of the result
};

// The kernel as the plan states it, verified. Beside the parameters that have arguments there are some that stand for parts of
// them, for tiles that loops carry, and for scalars that equations compute.
struct Program {
  std::string name;
  std::vector<Param> params;
  std::vector<std::array<DimRef, 2>> valid;  // rows and columns of each parameter that is a tile
  std::size_t n_args = 0;
  std::vector<Check> checks;
  std::vector<Value> values;
  std::vector<std::uint32_t> root;     // of each value, the one whose memory it is (of `restrict`), mostly itself
  std::vector<Instr> instrs;
  std::uint32_t n_regs = 0;
  std::vector<ScalarEqn> scalars;
  std::vector<Segment> segments;
  std::vector<std::array<std::size_t, 2>> extents;  // of each loop body: instructions from, to
  std::vector<Loop> loops;
  std::vector<Branch> branches;
  std::vector<Block> blocks;
  std::uint32_t body = 0;              // block
  bool structured = false;             // there is more than one segment of tile operations
  bool pipes = false;                  // the model of costs: else serial
  std::uint32_t n_cycles = 0;          // expressions of cycles
  std::vector<bool> cost_scalars, cost_extents;  // of arguments: whether the cost depends on the scalar, on the extents
  std::int32_t cpp = -1;               // the number of the equation that is C++; there is no other then
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
  std::int32_t origin = -1;
  DimRef rows, cols, inner, outer;
  std::uint32_t instr = 0;
  std::int32_t ahead = -1;  // see OpArgs: the base of that memory
};

// Steps first .. first + count, run strip by strip.
struct Group {
  std::uint32_t first = 0, count = 0;
  std::int32_t rows = 1, strip = 1;
  bool whole = false;
};

// A group with compiled functions in the place of some steps: each entry is a piece or a step.
struct NativeGroup {
  struct Entry {
    bool piece;
    std::uint32_t index;
  };
  std::vector<Entry> entries;
  std::vector<std::array<DimRef, 2>> equal;  // else the group runs as planned
  std::int32_t strip = 1;
};
struct LinkedPiece {
  Piece run = nullptr;
  DimRef rows;
  std::vector<DimRef> sizes;
};
struct Native {
  std::vector<LinkedPiece> pieces;
  std::vector<NativeGroup> groups;     // one for each group of the kernel
};
inline constexpr std::size_t most_sizes = 32;  // of a piece

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
  std::int64_t misaligned;     // bits that addresses and strides must not have to be used in place
};

struct KernelImpl {
  Program program;
  std::vector<std::byte> constants;
  std::vector<Step> steps;
  std::vector<Group> groups;
  bool one_strip = true;  // every group fits a single strip
  std::vector<ScalarSlot> scalars;
  std::vector<Staging> staging;  // one per tile parameter
  std::int64_t work_offset = 0, regs_offset = 0;
  std::vector<std::int64_t> memory;       // offset in scratch of each parameter without argument that is a tile; else -1
  std::vector<Place> value_places;        // of values that equations over scalars use
  std::vector<std::int64_t> scalar_slots; // offset in scratch of each parameter that is a scalar; else -1
  std::size_t scratch_bytes = 0;
  bool varied = false;                    // the cost or a check depends on scalars or on lengths of regions
  std::vector<bool> kept;                 // of values: used after their group, or in a parameter's memory
  std::vector<std::size_t> same_size;     // of 2 * parameter + is_cols: the extent that it always equals
  mutable std::atomic<CppEntry> cpp{nullptr};
  mutable std::atomic<const Native*> native{nullptr};

  KernelImpl() = default;
  ~KernelImpl();
};

// kernel_decode.cpp: reads and verifies. Throws PlanError.
Program decode_program(Cursor& in);
// kernel_plan.cpp: decides strips, places and aliases.
void plan_kernel(KernelImpl& kernel);
// kernel_cost_analysis.cpp, kernel_cost.cpp
void analyse_cost(Program& program);
std::int64_t evaluate_cost(const Program& program, std::span<const Arg> args);
// kernel_control.cpp
// The scalar operations that need no memory. False: it has no result; `fault` says why.
bool step_registers(const ScalarEqn& e, std::span<const Arg> args, std::int64_t* regs, Fault& fault) noexcept;

}  // namespace pto_wsp
