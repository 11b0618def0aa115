#pragma once
// A kernel: a short program over tiles, with loops and branches, decoded from a plan, verified, and run on views of tensors.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "pto_wsp/cursor.hpp"
#include "pto_wsp/dtype.hpp"
#include "pto_wsp/isa.hpp"
#include "pto_wsp/native.hpp"
#include "pto_wsp/tile_ops.hpp"

namespace pto_wsp {

enum class Dir : std::uint8_t { in = 0, out = 1, inout = 2 };

// A view given to a tile parameter. Strides are in bytes and may be negative or zero; `data` is the view's element (0, 0) and
// needs no alignment. `rows`, `cols` are the valid ones: at least 1, at most the parameter's. Of a gathered dimension there is
// one index for each valid row or column: row i lies row_index[i] strides from `data`, and so do columns. Others have none.
struct TileArg {
  std::byte* data;
  std::int64_t row_stride, col_stride;
  std::int32_t rows, cols;
  const std::int64_t* row_index;
  const std::int64_t* col_index;
};

inline constexpr std::uint32_t max_region_dims = 4;
inline constexpr std::int64_t max_region_length = std::numeric_limits<std::int32_t>::max();

// A region of a tensor given to a region parameter, of as many dimensions as that has. Strides are in bytes, one a dimension; they
// outlive the task. Lengths may be 0.
struct RegionArg {
  std::byte* data;
  const std::int64_t* strides;
  std::int32_t length[max_region_dims];
};

// One argument; the parameter says which member counts. `scalar` holds a value of the parameter's dtype exactly, as the 64 bits of
// scalar_of(dtype): of an f64, i64 or u64, or 0 or 1.
union Arg {
  TileArg tile;
  RegionArg region;
  std::uint64_t scalar;
};

// A tile of static shape; a scalar; or a region of `rank` dimensions, of static sizes or -1: known at the task.
struct Param {
  bool is_scalar = false, is_region = false;
  Dir dir = Dir::in;
  DType dtype = DType::f32;
  std::int32_t rows = 0, cols = 0;
  std::uint32_t rank = 0;
  std::array<std::int32_t, max_region_dims> dims = {};
};

// The cost expression overflowed, divided by zero, or gave a negative number.
class CostError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The cost takes too many trips of loops to work out.
class TripsError : public CostError {
 public:
  using CostError::CostError;
};

// What C++ of a kernel is compiled to: 0, or 1 with what an exception says in `text`.
struct Argument;
using CppEntry = int (*)(const Argument* args, char* text, std::size_t size);

// Where an operand of a step lies: at `offset` bytes of a base, its rows `stride` bytes apart, more by the base's own stride.
struct OperandInfo {
  enum class Kind : std::uint8_t { value, constant } kind{};
  std::int32_t value = -1;             // of the kernel, in the order of the plan
  DType dtype{};
  std::uint32_t base = 0;
  std::int64_t offset = 0, stride = 0;
  bool one_row = false;                // repeated for all rows
  bool of_strip = false;               // holds a strip only
  std::int32_t cols = 1;               // the static columns
};

// An extent: a number, or one of those that are equal for all arguments of the kernel.
struct ExtentInfo {
  char kind = 'c';                     // c: the number `id`; others: one that is known at the task
  std::int64_t id = 0;
};

// One call of a tile operation, as planned.
struct StepInfo {
  Op op{};
  DType operand{};
  OperandInfo result;
  bool kept = false;                   // the result is used by what comes after the group, or lies in a parameter
  std::vector<OperandInfo> sources;
  std::uint8_t immediate = 0;
  std::array<ExtentInfo, 3> extents = {};  // rows, cols, inner
};

// Steps that run together, strip by strip; one strip of all rows where they are `whole`.
struct GroupInfo {
  std::uint32_t first = 0;
  bool whole = false;
  std::vector<StepInfo> steps;
};

// A compiled function in the place of steps first .. first + count - 1, all of one group.
struct NativePiece {
  std::uint32_t first = 0, count = 0;
  Piece run = nullptr;
  using Size = std::pair<std::uint32_t, std::uint32_t>;  // step, 0 rows, 1 cols, 2 inner
  std::vector<Size> sizes;
  std::vector<std::pair<Size, Size>> equal;  // a task where these differ runs the steps of the group themselves
};

struct KernelImpl;

// Immutable after `decode`; any number of threads may use one at the same time.
class Kernel {
 public:
  // Reads one kernel. Throws PlanError for anything that could not run safely with arguments of the declared types.
  static Kernel decode(Cursor& in);

  Kernel(Kernel&&) noexcept;
  Kernel& operator=(Kernel&&) noexcept;
  ~Kernel();

  const std::string& name() const noexcept;
  std::span<const Param> params() const noexcept;

  // Cycles for these valid shapes, lengths and scalars. Throws CostError or TripsError.
  std::int64_t cost(std::span<const Arg> args) const;
  // Whether the cost depends on the scalar that is this argument, or on the extents of a tile or region.
  bool costs_scalar(std::size_t arg) const noexcept;
  bool costs_extents(std::size_t arg) const noexcept;
  // Whether the cost or failed_check depends on more than valid shapes of tiles: lengths of regions, or scalars.
  bool varied() const noexcept;

  // Index of the first valid-shape requirement these arguments break, -1 if none.
  int failed_check(std::span<const Arg> args) const noexcept;

  // Whether one `run` may take as long as it likes: it has loops, or is C++.
  bool may_be_long() const noexcept;

  // Whether `run` may meet something it cannot compute.
  bool may_fault() const noexcept;

  // Gives a kernel of C++ its function, which outlives it. Before the first `run`. Throws PlanError for another kernel.
  void link_cpp(CppEntry entry) const;

  // What a function in the place of steps must do.
  std::vector<GroupInfo> groups() const;
  // From now on these functions, which outlive the kernel, run in the place of steps; others link nothing any more. May be called while
  // the kernel runs. Throws PlanError for pieces that are not its own.
  void link_native(std::vector<NativePiece> pieces) const;

  // How much working memory `run` needs; a multiple of 64.
  std::size_t scratch_bytes() const noexcept;

  // Needs: one argument per parameter, failed_check(args) == -1, `scratch` 64-byte aligned and scratch_bytes() long, an FpEnv
  // alive in this thread. A written argument overlaps no other argument; of a gathered row or column that it has twice, the last
  // one is kept. Gives the first fault: of an index that led outside elements were left out, after any
  // other it stopped. Loops look at `stop` in each trip.
  Fault run(std::span<const Arg> args, std::byte* scratch, const std::atomic<bool>* stop = nullptr) const noexcept;

 private:
  explicit Kernel(std::unique_ptr<const KernelImpl> impl) noexcept;
  std::unique_ptr<const KernelImpl> impl_;
};

}  // namespace pto_wsp
