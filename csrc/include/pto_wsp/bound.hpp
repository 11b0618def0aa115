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
#include "pto_wsp/scalar.hpp"
#include "pto_wsp/tape.hpp"

namespace pto_wsp {

enum class ErrorKind : std::uint8_t {
  bounds, extent, valid_shape, scalar_range, zero_divisor, overflow, cost, cancelled, dim, memory,
  read_bounds, gather_bounds, shift, cast_range, empty_reduce, changed, hook, kernel_fault, trips, resource,
  unknown, rule, deadlock, window, replay, not_given, processes, closed, limit, race
};

constexpr const char* name_of(ErrorKind kind) noexcept {
  constexpr const char* names[] = {"bounds", "extent", "valid_shape", "scalar_range", "zero_divisor",
                                   "overflow", "cost", "cancelled", "dim", "memory",
                                   "read_bounds", "gather_bounds", "shift", "cast_range", "empty_reduce", "changed", "hook", "kernel_fault", "trips", "resource",
                                   "unknown", "rule", "deadlock", "window", "replay", "not_given",
                                   "processes", "closed", "limit", "race"};
  return names[static_cast<std::size_t>(kind)];
}

/// What went wrong, where, and with which values. Fields that do not apply are -1 or empty.
///   bounds: arg, dim, values = start, length (limit for a tile), size of the dimension
///   extent, scalar_range: values = the value;  zero_divisor: values = the dividend;  valid_shape: check
///   kernel_fault: values = the two numbers of the Fault, its origin, its kind; text
///   dim: arg = the tensor, dim, values = expected, actual
///   read_bounds: dim, values = start, length, size of the dimension; of the index view of a gather also site and arg
///   gather_bounds: arg, dim, values = the index, size of the dimension, position of the index in its view
///   shift: values = the number of bits;  changed: a tensor that no task writes holds another value than when the run began
///   cost, trips: a cost that has no value, or takes too many trips of loops to work out
///   unknown: what a failed task would have written is read; values = its position in program order
///   rule: values = which one (lane, stream, priority, distance, pool), the RuleStatus or PlacingStatus, the value it has
///   deadlock: semantic time cannot go on; values = those of Clock::Blocked in its order, the first -1 where there is none
///   not_given: a dry run reads what tasks would have written; of a gather also arg
///   window: values = which, what the run needs, what it may have, 1 where these are bytes
///   replay: the schedule that the run is to follow is none of it; values = why, and two numbers: see ReplayError
///   processes: those of a pipeline wait for ever; values = of each that waits its number, 0 where it sends, else 1, the channel, tokens
///     in it, its capacity (-1: none), the process's clock, the origin of what it waits at
///   closed: a process sends to a channel that it has closed; values = its number, the channel, its clock
///   limit: of a pipeline; values = 0 of cycles, 1 of actions without any clock moving, the limit
///   race: of two processes of a pipeline, that no token orders; values = the pipeline, the tensor, how many dimensions it has, the element,
///     then of each access its process, 1 where it writes, else 0, the site of a task, the origin of a scalar that is read (-1: the other),
///     how many coordinates, these; the one that was found is the second
///   hook: who watches the run has stopped it, at this task
///   resource: text = the reason, values = what is needed at least, what there is
/// Values that are no 64-bit signed integers are left out. A failure of a task has its site and coordinates. One of another
/// node has the node's origin and the registers of the loops around it, outermost first.
struct Failure {
  ErrorKind kind{};
  std::int64_t site = -1, arg = -1, dim = -1, check = -1, origin = -1;
  std::vector<std::int64_t> coords{}, values{};
  std::string text{};
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

/// How many elements of a dimension are meant: `size`, or less where `room` says so.
struct Extent {
  std::int64_t size = 1;
  bool tail = false;
  bool may_be_empty = false;   // of a tile there is at least one
  Linear room;
};

struct BoundArg {
  bool is_scalar = false;
  bool constant = true;        // scalar: `value`, 64 bits of scalar_of(dtype)
  std::uint64_t value = 0;
  DType dtype = DType::f32;
  std::uint32_t tensor = none; // none: a scalar
  Linear at;                   // tile: its address
  std::int64_t row_stride = 0, col_stride = 0;
  Extent rows, cols;
  std::uint32_t first_dim = none, n_dims = 0;  // region: of region_strides_ and region_dims_
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
  std::uint32_t gather = none;  // the elements are those that this gather of the task names
};

struct TrackedView {
  std::uint32_t tensor;
  bool write;
  std::uint32_t first_dim, n_dims;
};

/// A scalar read, or the index view of a gather, with its memory.
struct BoundRead {
  const std::vector<ViewDim>* dims = nullptr;
  DType dtype{};
  bool proved = false;               // in bounds
  Linear at;                         // address of the first element
  std::uint32_t first_dim = 0;       // of read_dims_
  TrackedView view;                  // where it waits: what it reads
};

struct ReadDim {
  std::int64_t extent, stride;
  Extent length;
};

struct BoundScalarRead {
  const ReadSpec* spec = nullptr;
  BoundRead from;
  bool ranged = false;               // proofs rely on values between these
  std::int64_t lo = 0, hi = 0;
};

/// The indices of one dimension of an argument.
struct BoundGather {
  const GatherSpec* spec = nullptr;
  BoundRead from;
  std::int64_t stride = 0, extent = 0;  // between indices; of the dimension they are for
  Extent length;
  std::uint32_t arg = 0, dim = 0;
  bool of_rows = false;
  std::uint32_t first = 0;           // place among the indices of the task
};

struct BoundTask {
  const TaskSpec* spec = nullptr;
  const Kernel* kernel = nullptr;
  std::uint32_t first_arg = 0, n_args = 0;
  std::uint32_t first_check = 0, n_checks = 0;
  std::uint32_t first_view = 0, n_views = 0;
  std::uint32_t first_gather = 0, n_gathers = 0;
  std::uint32_t n_indices = 0;           // of all gathers
  bool reachable = false;
  bool scalars = false;                  // some scalar is computed
  bool shaped = false;                   // some valid shape, or what else the cost depends on, varies between tasks
  int failed_check = -1;                 // when not shaped
  std::optional<std::int64_t> cost;      // when not shaped; nothing: it has no value,
  ErrorKind cost_error = ErrorKind::cost; // because of this
};

struct BoundNode {
  NodeKind kind{};
  bool sequential = false;
  bool conditional = false;
  bool checked = false;                  // loop: the extent was not proved to be a number >= 0
  bool loops = false;                    // there is a loop at or below this node
  bool empty = false;                    // there is nothing to do, and nothing that can fail
  bool ragged = false;                   // how many tasks there are depends on data or on loops around
  std::uint32_t reg = 0, task = 0;       // task: of a read its own number
  Linear extent;
  std::uint32_t first_child = 0, n_children = 0;
  const Node* plan = nullptr;
};

/// Immutable while a run uses it.
class BoundPlan {
 public:
  /// `buffers` has an entry per tensor, with the right number of dimensions. When a failure is certain, gives it and
  /// builds nothing that may run.
  /// `slots`: what they hold at first, zeros where there are none.
  std::optional<Failure> bind(const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers,
                              std::span<const std::uint64_t> slots = {});

  const Plan& plan() const { return *plan_; }
  std::uint32_t root() const { return root_; }
  const BoundNode& node(std::uint32_t i) const { return nodes_[i]; }
  std::uint32_t child(const BoundNode& n, std::uint32_t i) const { return children_[n.first_child + i]; }
  const BoundTask& task(std::uint32_t i) const { return tasks_[i]; }
  std::uint32_t n_tasks() const { return static_cast<std::uint32_t>(tasks_.size()); }
  std::span<const BoundArg> args(const BoundTask& t) const { return {args_.data() + t.first_arg, t.n_args}; }
  std::span<const TrackedView> views(const BoundTask& t) const { return {views_.data() + t.first_view, t.n_views}; }
  std::span<const TrackedDim> dims(const TrackedView& v) const { return {view_dims_.data() + v.first_dim, v.n_dims}; }
  std::span<const BoundGather> gathers(const BoundTask& t) const { return {gathers_.data() + t.first_gather, t.n_gathers}; }
  const std::vector<BoundScalarRead>& reads() const { return reads_; }
  std::span<const LinearTerm> terms(const Linear& a) const { return {terms_.data() + a.first, a.count}; }
  std::size_t scratch_bytes() const { return scratch_; }
  std::size_t max_args() const { return max_args_; }
  /// Registers at the start of a run: the symbols.
  const std::vector<std::int64_t>& initial_regs() const { return regs_; }
  const std::vector<std::uint64_t>& initial_slots() const { return slots_; }

  /// Everything is proved of all tasks: no bound, index, range or extent is looked at when they come.
  bool proved() const { return !unproved_; }
  /// Tensors are elsewhere now, each by so many bytes, modulo 2^64: all that changes where no data is read. No run may use the plan meanwhile.
  void move(std::span<const std::uint64_t> tensors);
  /// Leaves out what computes a register that decides nothing.
  void leave_out(const Node& n);
  /// Something that data decide could not be proved: a bound, an extent, an index, a range.
  bool needs_dry_walk() const { return unproved_ && plan_->reads_data() && plan_->foreseeable() && plan_->pipelines().empty(); }
  /// Checks every task in program order without running it, so that a bad length, index or page is told with nothing run.
  /// `budget` bounds how many tasks and how many thousand other steps are looked at: with very many tasks this would take as long
  /// as the run, nobody could cancel it, and each task is checked again when it comes anyway. Needs needs_dry_walk().
  std::optional<Failure> dry_walk(std::uint64_t budget) const;

  std::uint64_t value(const Linear& a, const std::int64_t* regs) const {
    std::uint64_t sum = a.constant;
    const LinearTerm* t = terms_.data() + a.first;
    for (std::uint32_t i = 0; i < a.count; ++i) sum += t[i].coef * static_cast<std::uint64_t>(regs[t[i].reg]);
    return sum;
  }

  std::int64_t length(const Extent& e, const std::int64_t* regs) const {
    if (!e.tail) return e.size;
    const auto room = static_cast<std::int64_t>(value(e.room, regs));
    const std::int64_t least = e.may_be_empty ? 0 : 1;
    return room < least ? least : room < e.size ? room : e.size;
  }

  /// Checks the task at these registers and fills `out` (n_args of them). Gives what failed, if anything.
  /// `indices` has room for plan().max_gather(), and is what gathered arguments point into; other tasks need none.
  /// `given`: what gathers from tensors that tasks write read, instead of memory.
  /// The common case, nothing to check, is inline.
  bool prepare(const BoundTask& t, const std::int64_t* regs, Arg* out, Failure& failure, std::int64_t* indices,
               TapeReader* given = nullptr) const {
    if (t.n_checks != 0 && !check_bounds(t, regs, failure)) return false;
    const BoundArg* a = args_.data() + t.first_arg;
    for (std::uint32_t i = 0; i < t.n_args; ++i, ++a) {
      if (a->is_scalar) {
        out[i].scalar = a->value;
      } else if (a->first_dim != none) [[unlikely]] {
        out[i].region = region(*a, regs);
      } else {
        out[i].tile.data = reinterpret_cast<std::byte*>(value(a->at, regs));
        out[i].tile.row_stride = a->row_stride;
        out[i].tile.col_stride = a->col_stride;
        out[i].tile.rows = static_cast<std::int32_t>(length(a->rows, regs));
        out[i].tile.cols = static_cast<std::int32_t>(length(a->cols, regs));
        out[i].tile.row_index = nullptr;
        out[i].tile.col_index = nullptr;
      }
    }
    if (t.n_gathers != 0 && !gather(t, regs, out, indices, failure, given)) return false;
    if (t.scalars && !compute_scalars(t, regs, out, failure)) return false;
    if (!t.shaped && t.failed_check < 0) return true;
    return check_shapes(t, regs, out, failure);
  }

  /// What the cost depends on: valid shapes, lengths of regions, scalars.
  void shapes(const BoundTask& t, const std::int64_t* regs, Arg* out) const;
  std::span<const Extent> region_dims(const BoundArg& a) const { return {region_dims_.data() + a.first_dim, a.n_dims}; }

  /// Lets the gathered arguments of a task, copied from where `prepare` has put them, point into `to`.
  void move_indices(const BoundTask& t, Arg* args, std::int64_t* to) const;

  /// What an evaluation, scalar operation, scalar read or slot_get puts into its register.
  bool compute(const BoundNode& n, std::int64_t* regs, const std::uint64_t* slots, Failure& failure) const;
  bool operand(const BoundNode& n, const Operand& o, const std::int64_t* regs, std::uint64_t& out, Failure& failure) const;
  bool extent(const BoundNode& loop, const std::int64_t* regs, std::uint64_t& out, Failure& failure) const;
  /// Whether what the node reads is in bounds, and whether there is anything to read.
  bool check_read(const BoundNode& n, const std::int64_t* regs, bool& anything, Failure& failure) const;

  std::vector<std::int64_t> coords(const TaskSpec& t, const std::int64_t* regs) const;

 private:
  friend class Binder;
  RegionArg region(const BoundArg& a, const std::int64_t* regs) const;
  bool check_bounds(const BoundTask& t, const std::int64_t* regs, Failure& failure) const;
  bool compute_scalars(const BoundTask& t, const std::int64_t* regs, Arg* out, Failure& failure) const;
  bool check_shapes(const BoundTask& t, const std::int64_t* regs, const Arg* args, Failure& failure) const;
  bool gather(const BoundTask& t, const std::int64_t* regs, Arg* out, std::int64_t* indices, Failure& failure, TapeReader* given) const;
  bool check_dims(const BoundRead& r, const std::int64_t* regs, Failure& failure) const;
  bool read(const BoundNode& n, std::int64_t* regs, Failure& failure) const;
  bool failed(const BoundNode& n, ErrorKind kind, const std::int64_t* regs, Failure& failure) const;

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
  std::vector<BoundScalarRead> reads_;
  std::vector<BoundGather> gathers_;
  std::vector<ReadDim> read_dims_;
  std::vector<std::int64_t> region_strides_;
  std::vector<Extent> region_dims_;
  std::vector<std::int64_t> regs_;
  std::vector<std::uint64_t> slots_;
  std::size_t scratch_ = 0, max_args_ = 0;
  bool unproved_ = false;
};

/// A failure of a node that is no task.
Failure failure_at(const Plan& plan, const Node& n, ErrorKind kind, const std::int64_t* regs);

/// Empty, and nothing kept for later.
template <class Container>
void free_memory(Container& c) {
  Container().swap(c);
}

}  // namespace pto_wsp
