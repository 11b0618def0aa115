// A plan joined with the tensors and symbols of one run: every address flattened to one affine form in bytes,
// every access proved in bounds or marked to be checked when its task comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/interval.hpp"
#include "pto_wsp/plan.hpp"

namespace pto_wsp {

enum class ErrorKind : std::uint8_t {
  bounds, extent, valid_shape, scalar_range, zero_divisor, overflow, cost, cancelled, dim, memory
};

constexpr const char* name_of(ErrorKind kind) noexcept {
  constexpr const char* names[] = {"bounds", "extent", "valid_shape", "scalar_range", "zero_divisor",
                                   "overflow", "cost", "cancelled", "dim", "memory"};
  return names[static_cast<std::size_t>(kind)];
}

/// What went wrong, where, and with which values. Fields that do not apply are -1 or empty.
///   bounds: arg, dim, values = start, length (limit for a tile), size of the dimension
///   extent, scalar_range: values = the value;  zero_divisor: values = the dividend;  valid_shape: check
///   extent, zero_divisor, overflow outside a task: coords are of the first task at or after it, where known by then
///   dim: arg = the tensor, dim, values = expected, actual
struct Failure {
  ErrorKind kind{};
  std::int64_t site = -1, arg = -1, dim = -1, check = -1;
  std::vector<std::int64_t> coords{}, values{};
};

/// Memory of a tensor: any strides (in bytes), all elements within shape addressable.
struct Buffer {
  std::byte* data = nullptr;
  std::vector<std::int64_t> shape, strides;
};

/// An affine form whose true value is known to fit 64 bits: arithmetic modulo 2^64 then gives it exactly,
/// whatever the size of its coefficients.
struct Linear {
  std::uint64_t constant = 0;
  std::uint32_t first = 0, count = 0;
};

struct LinearTerm {
  std::uint64_t coef;
  std::uint32_t reg;
};

/// How many rows or columns an argument has: `size`, or less where `room` says so.
struct Extent {
  std::int32_t size = 1;
  bool tail = false;
  Linear room;
};

struct BoundArg {
  bool is_scalar = false;
  bool constant = true;        // scalar: `value`
  double value = 0;
  DType dtype = DType::f32;
  Linear at;                   // tile: its address
  std::int64_t row_stride = 0, col_stride = 0;
  Extent rows, cols;
};

/// A dimension of a view that could not be proved in bounds.
struct BoundsCheck {
  std::uint32_t arg, dim;
  std::int64_t extent;
};

struct TrackedDim {
  Linear start;
  Extent length;
  std::int64_t extent;  // of the tensor
};

struct TrackedView {
  std::uint32_t tensor;
  bool write;
  std::uint32_t first_dim, n_dims;
};

struct BoundTask {
  const TaskSpec* spec = nullptr;
  const Kernel* kernel = nullptr;
  std::uint32_t first_arg = 0, n_args = 0;
  std::uint32_t first_check = 0, n_checks = 0;
  std::uint32_t first_view = 0, n_views = 0;
  bool reachable = false;
  bool scalars = false;                  // some scalar is computed
  bool shaped = false;                   // some valid shape varies between tasks
  int failed_check = -1;                 // when not shaped
  std::optional<std::int64_t> cost;      // when not shaped; nothing: it has no value
};

struct BoundNode {
  NodeKind kind{};
  bool sequential = false;
  bool checked = false;                  // loop: the extent was not proved to be a number >= 0
  bool loops = false;                    // there is a loop at or below this node
  bool empty = false;                    // there is neither a task nor a possible failure
  std::uint32_t reg = 0, task = 0;
  Linear extent;
  std::uint32_t first_child = 0, n_children = 0;
  const Node* plan = nullptr;
};

/// Immutable while a run uses it.
class BoundPlan {
 public:
  /// `buffers` has an entry per tensor, with the right number of dimensions. When a failure is certain, gives it and
  /// builds nothing that may run.
  std::optional<Failure> bind(const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers);

  const Plan& plan() const { return *plan_; }
  std::uint32_t root() const { return root_; }
  const BoundNode& node(std::uint32_t i) const { return nodes_[i]; }
  std::uint32_t child(const BoundNode& n, std::uint32_t i) const { return children_[n.first_child + i]; }
  const BoundTask& task(std::uint32_t i) const { return tasks_[i]; }
  std::uint32_t n_tasks() const { return static_cast<std::uint32_t>(tasks_.size()); }
  std::span<const BoundArg> args(const BoundTask& t) const { return {args_.data() + t.first_arg, t.n_args}; }
  std::span<const TrackedView> views(const BoundTask& t) const { return {views_.data() + t.first_view, t.n_views}; }
  std::span<const TrackedDim> dims(const TrackedView& v) const { return {view_dims_.data() + v.first_dim, v.n_dims}; }
  std::span<const LinearTerm> terms(const Linear& a) const { return {terms_.data() + a.first, a.count}; }
  std::size_t scratch_bytes() const { return scratch_; }
  std::size_t max_args() const { return max_args_; }
  /// Registers at the start of a run: the symbols.
  const std::vector<std::int64_t>& initial_regs() const { return regs_; }

  std::uint64_t value(const Linear& a, const std::int64_t* regs) const {
    std::uint64_t sum = a.constant;
    const LinearTerm* t = terms_.data() + a.first;
    for (std::uint32_t i = 0; i < a.count; ++i) sum += t[i].coef * static_cast<std::uint64_t>(regs[t[i].reg]);
    return sum;
  }

  std::int32_t length(const Extent& e, const std::int64_t* regs) const {
    if (!e.tail) return e.size;
    const auto room = static_cast<std::int64_t>(value(e.room, regs));
    return static_cast<std::int32_t>(room < 1 ? 1 : room < e.size ? room : e.size);
  }

  /// Checks the task at these registers and fills `out` (n_args of them). Gives what failed, if anything.
  /// The common case, nothing to check, is inline.
  bool prepare(const BoundTask& t, const std::int64_t* regs, Arg* out, Failure& failure) const {
    if (t.n_checks != 0 && !check_bounds(t, regs, failure)) return false;
    const BoundArg* a = args_.data() + t.first_arg;
    for (std::uint32_t i = 0; i < t.n_args; ++i, ++a) {
      if (a->is_scalar) {
        out[i].scalar = a->value;
      } else {
        out[i].tile.data = reinterpret_cast<std::byte*>(value(a->at, regs));
        out[i].tile.row_stride = a->row_stride;
        out[i].tile.col_stride = a->col_stride;
        out[i].tile.rows = length(a->rows, regs);
        out[i].tile.cols = length(a->cols, regs);
      }
    }
    if (t.scalars && !compute_scalars(t, regs, out, failure)) return false;
    if (!t.shaped && t.failed_check < 0) return true;
    return check_shapes(t, regs, out, failure);
  }

  /// The valid shapes alone, for the cost.
  void shapes(const BoundTask& t, const std::int64_t* regs, Arg* out) const;

  std::vector<std::int64_t> coords(const TaskSpec& t, const std::int64_t* regs) const;

 private:
  friend class Binder;
  bool check_bounds(const BoundTask& t, const std::int64_t* regs, Failure& failure) const;
  bool compute_scalars(const BoundTask& t, const std::int64_t* regs, Arg* out, Failure& failure) const;
  bool check_shapes(const BoundTask& t, const std::int64_t* regs, const Arg* args, Failure& failure) const;

  const Plan* plan_ = nullptr;
  std::uint32_t root_ = 0;
  std::vector<BoundNode> nodes_;
  std::vector<std::uint32_t> children_;
  std::vector<BoundTask> tasks_;
  std::vector<BoundArg> args_;
  std::vector<BoundsCheck> checks_;
  std::vector<TrackedView> views_;
  std::vector<TrackedDim> view_dims_;
  std::vector<LinearTerm> terms_;
  std::vector<std::int64_t> regs_;
  std::size_t scratch_ = 0, max_args_ = 0;
};

/// Coordinates of the first task at or after a loop or an evaluation, when it can tell them; else none.
std::vector<std::int64_t> coords_at(const Plan& plan, const Node& n, const std::int64_t* regs);

/// Empty, and nothing kept for later.
template <class Container>
void free_memory(Container& c) {
  Container().swap(c);
}

/// `v` rounded once, to nearest even. False: it does not fit (i32).
bool to_scalar(std::int64_t v, DType dtype, double& out);

}  // namespace pto_wsp
