// A lowered workload: tables and a tree of loops and tasks. Immutable after decoding, shared by runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pto_wsp/dtype.hpp"
#include "pto_wsp/kernel.hpp"
#include "pto_wsp/placement.hpp"

namespace pto_wsp {

inline constexpr std::uint32_t plan_version = 6;
inline constexpr std::uint32_t max_dims = 8;
inline constexpr std::uint32_t max_depth = 64;
inline constexpr std::uint32_t max_slots = 64;
inline constexpr std::uint32_t none = 0xffffffffu;

struct Term {
  std::uint32_t reg;
  std::int64_t coef;
};

/// constant + sum of coef * register; each register at most once, no zero coefficient.
struct Affine {
  std::int64_t constant = 0;
  std::vector<Term> terms;
};

struct TensorInfo {
  std::string name;
  DType dtype;
  bool read, written;
  bool temporary;            // memory of the run, between an acquire and its release
  std::vector<Affine> dims;  // over symbols
};

enum class DimKind : std::uint8_t { index, slice, tile, gather, span };

/// How a view uses one dimension of its tensor: a plain index (dropped), a slice of static length, a tile of static size
/// cut off at `limit`, the elements that an index view names, or (scalar reads only) `limit` elements from `start`.
struct ViewDim {
  DimKind kind;
  std::int32_t size;  // 1, or the parameter's static rows or columns
  Affine start, limit;
  std::uint32_t gather = none;  // gather: index into gathers()
};

/// The index view of a gather: keeps one dimension, a slice or a tile, of `size` elements at most.
struct GatherSpec {
  std::uint32_t tensor = 0;
  bool wait = false;  // tasks of the run write the tensor
  std::int32_t size = 1;
  std::uint32_t kept = 0;
  std::vector<ViewDim> dims;
};

enum class ReadKind : std::uint8_t { item, sum, max, min, any, all };

/// A scalar read from a tensor; `wait`: tasks of the run write it, so this is a materialisation boundary.
struct ReadSpec {
  ReadKind kind{};
  std::uint32_t tensor = 0;
  bool wait = false;
  std::vector<ViewDim> dims;  // item: all of kind index
};

enum class ScalarOp : std::uint8_t {
  add, sub, mul, floordiv, mod, div, bit_and, bit_or, bit_xor, bit_not, shl, shr,
  eq, ne, lt, le, gt, ge, min, max, abs, neg, where, cast
};

/// A register, 64 bits of a constant, or an index expression (i64); in a rule also what an earlier step of it gave.
struct Operand {
  enum class Kind : std::uint8_t { reg, constant, affine, step } kind{};
  std::uint32_t reg = none;   // or the step
  std::uint64_t bits = 0;
  Affine affine;
};

/// Registers hold 64 bits: of i64, u64, f64, or a bool as 0 or 1. `type` is of the operands (of where: of the values).
struct ScalarSpec {
  ScalarOp op{};
  DType type{}, to{};      // to: of a cast
  bool checked = false;    // overflow is a failure; else integers wrap
  std::vector<Operand> operands;
};

struct RuleOp;

struct RuleStep {
  const RuleOp* op = nullptr;
  DType type{}, to{};          // of the operands; of a cast
  std::uint32_t number = 0;    // of the operations in the rule that are no scalar operations
  std::vector<Operand> operands;
};

/// A scalar expression that the schedule has of each task, as steps; `memory`: whose positions, keys and loads it asks for.
struct Rule {
  bool exists = false;
  std::uint32_t memory = 0;
  std::vector<RuleStep> steps;
  Operand result;              // i64 or u64
};

/// What the schedule says of a task, where it says more than a round robin.
struct ScheduleSpec {
  Rule lane, stream, priority, distance, pool;
  std::uint32_t stream_scope = none;  // an index of streams()
};

struct ArgSpec {
  bool is_scalar = false;
  // tile
  std::uint32_t tensor = 0;
  bool tracked = false;
  std::vector<ViewDim> dims;
  std::uint32_t row_dim = 0, col_dim = 0;
  bool is_region = false;
  std::vector<std::uint32_t> kept;  // region: the dimensions that it has
  // scalar: a constant, an index expression, or where `reg` is one, a register of type `reg_type`
  bool constant = true;
  std::uint64_t value = 0;           // 64 bits of scalar_of(the parameter's dtype)
  Affine affine;
  std::uint32_t reg = none;
  DType reg_type{};
};

struct TaskSpec {
  std::uint32_t kernel, site, dispatch /* none or an index */, window;
  std::uint32_t batch = none;           // an index
  bool steal = false;                   // idle lanes may take it
  std::uint32_t schedule = none;        // an index of schedules()
  std::uint32_t handle = none;          // joins the tasks that others name
  std::vector<std::uint32_t> after;     // handles to wait for
  std::vector<Affine> coords;
  std::vector<ArgSpec> args;
};

/// Numbers of operands of `op`.
constexpr std::uint32_t arity(ScalarOp op) noexcept {
  if (op == ScalarOp::where) return 3;
  return op == ScalarOp::bit_not || op == ScalarOp::abs || op == ScalarOp::neg || op == ScalarOp::cast ? 1 : 2;
}

/// Whether there is such an operation on operands of `type`: i64, u64, f64 or boolean.
constexpr bool exists(ScalarOp op, DType type) noexcept {
  switch (op) {
    case ScalarOp::bit_and: case ScalarOp::bit_or: case ScalarOp::bit_xor: case ScalarOp::bit_not: return type != DType::f64;
    case ScalarOp::eq: case ScalarOp::ne: case ScalarOp::where: case ScalarOp::cast: return true;
    case ScalarOp::shl: case ScalarOp::shr: return type == DType::i64 || type == DType::u64;
    case ScalarOp::div: return type == DType::f64;
    default: return type != DType::boolean;
  }
}

constexpr DType result_of(const ScalarSpec& s) noexcept {
  if (s.op >= ScalarOp::eq && s.op <= ScalarOp::ge) return DType::boolean;
  return s.op == ScalarOp::cast ? s.to : s.type;
}

constexpr DType result_of(ReadKind kind, DType tensor) noexcept {
  if (kind == ReadKind::any || kind == ReadKind::all) return DType::boolean;
  return kind == ReadKind::sum && tensor == DType::boolean ? DType::i64 : scalar_of(tensor);
}

/// What orders tasks beside structure: exact overlap of views, overlap of the ranges of bytes they lie in, `after` alone,
/// or `after` and exact overlap.
enum class DepsMode : std::uint8_t { exact, bytes, explicit_only, hybrid };

/// A channel between the processes of a pipeline. A token holds a number of each of these types.
struct ChannelInfo {
  std::uint64_t capacity = 1;                // tokens, ~0: any number; 0: a rendezvous
  std::uint64_t latency = 0, response = 0;   // cycles
  std::uint64_t initial = 0;                 // tokens that are there at first; token k holds k
  std::vector<DType> fields;
};

/// The children of its node are its processes.
struct PipelineInfo {
  std::uint32_t first_channel = 0, n_channels = 0;  // of channels()
  std::uint32_t window = 0, batch = none;           // of the task that it is in semantic time
  // By process the channels it may send into, counted from the first of the pipeline; by channel the processes that receive from it.
  std::vector<std::vector<std::uint32_t>> produces, consumers;
};

/// What a process does with a channel: where a token comes from or goes to, in the order of its fields.
struct PortInfo {
  std::uint32_t channel = 0;                 // counted from the first of the pipeline
  std::vector<Operand> operands;             // sends
  std::vector<std::uint32_t> regs;           // receives
};

enum class NodeKind : std::uint8_t {
  block, seq, loop, eval, task, scalar, read, cond, slot_get, slot_set, acquire, release, reset,
  pipeline, send, receive, consume, close, try_send, query
};
enum class EvalOp : std::uint8_t { mul, floordiv, mod, min, max };

struct Node {
  NodeKind kind = NodeKind::block;
  bool sequential = false;            // loop
  bool conditional = false;           // loop: children are the condition's block and the body, `operand` says whether to go on
  bool zeroed = false;                // acquire: the memory begins as zeros
  EvalOp op = EvalOp::mul;            // eval
  std::uint32_t reg = 0;              // loop, eval, scalar, read, slot_get; of try_send whether it was sent, of query whether there is a token
  std::uint32_t id = 0;               // loop: its id; otherwise index into tasks(), scalars(), reads(), slots(), tensors(), handles, pipelines(), ports()
  std::uint32_t origin = none;        // the equation it comes from, for messages
  Operand operand;                    // cond: children are then and else; slot_set: the value; conditional loop
  std::uint32_t around = none;        // the node whose child it is
  Affine a, b;                        // loop: extent; eval: operands
  std::vector<std::uint32_t> children;
};

/// `cyclic`: task k of the scope goes to lane k mod lanes; else each task has a rule.
struct Dispatch {
  std::uint32_t lanes;
  bool pinned = false, cyclic = true;
};

inline constexpr std::uint64_t no_bound = ~std::uint64_t{0};

struct Window {
  std::uint64_t tasks = no_bound, bytes = no_bound;
  WindowMode mode = WindowMode::stall;
};

class Plan {
 public:
  /// Decodes and verifies. What it returns can be run safely with any tensors of the right number of
  /// dimensions. Throws PlanError.
  static Plan decode(std::span<const std::byte> bytes);

  const std::vector<std::string>& symbols() const { return symbols_; }
  std::uint32_t n_regs() const { return n_regs_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<Kernel>& kernels() const { return kernels_; }
  const std::vector<Dispatch>& dispatches() const { return dispatches_; }
  const std::vector<Window>& windows() const { return windows_; }
  /// Tasks that are released together, of each batch scope.
  const std::vector<std::uint64_t>& batches() const { return batches_; }
  /// How many streams each scope of them has; 0: as many as there are keys.
  const std::vector<std::uint64_t>& streams() const { return streams_; }
  const std::vector<ScheduleSpec>& schedules() const { return schedules_; }
  /// Lanes of each pool, which add up to lanes().
  const std::vector<std::uint32_t>& pools() const { return pools_; }
  /// Issue takes a task of each of so many streams in turn; 0: in program order.
  std::uint64_t turns() const { return turns_; }
  /// How many scopes remember what rules ask for.
  std::uint32_t n_memories() const { return n_memories_; }
  /// Whether some task may be stolen, or has a priority; whether a window is in bytes.
  bool steals() const { return steals_; }
  bool ranked() const { return demands_.priorities; }
  bool counts_bytes() const { return demands_.bytes; }
  const std::vector<DType>& slots() const { return slots_; }
  const std::vector<TaskSpec>& tasks() const { return tasks_; }
  const std::vector<ScalarSpec>& scalars() const { return scalars_; }
  const std::vector<ReadSpec>& reads() const { return reads_; }
  const std::vector<GatherSpec>& gathers() const { return gathers_; }
  const std::vector<ChannelInfo>& channels() const { return channels_; }
  const std::vector<PipelineInfo>& pipelines() const { return pipelines_; }
  const std::vector<PortInfo>& ports() const { return ports_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  std::uint32_t root() const { return root_; }
  std::uint32_t lanes() const { return lanes_; }
  std::uint64_t issue_cost() const { return issue_cost_; }
  std::uint64_t handover() const { return handover_; }
  /// What a boundary costs beside waiting.
  std::uint64_t read_cost() const { return read_cost_; }
  DepsMode deps_mode() const { return deps_mode_; }
  std::uint32_t n_handles() const { return n_handles_; }
  /// The most indices that the gathers of one task have.
  std::size_t max_gather() const { return max_gather_; }

  /// Nothing has an order: no tracked view, sequential part, boundary, written slot, temporary, handle or pipeline.
  bool independent() const { return independent_; }
  /// What the schedule asks of real runs. A plan that asks for anything runs its tasks in order of issue, dependent or not.
  const Demands& demands() const { return demands_; }
  /// Scalars or gathers are read from tensors.
  bool reads_data() const { return !reads_.empty() || !gathers_.empty(); }
  /// No read or gather waits for tasks: all that decides which tasks there are is known before the first one runs.
  bool foreseeable() const { return foreseeable_; }
  bool writes_slot(std::uint32_t slot) const { return (written_slots_ >> slot & 1) != 0; }

  /// Registers of the loops around a node, outermost first.
  std::vector<std::uint32_t> loops_around(const Node& n) const;

 private:
  friend class PlanReader;
  Plan() = default;

  std::vector<std::string> symbols_;
  std::uint32_t n_regs_ = 0;
  std::vector<TensorInfo> tensors_;
  std::vector<Kernel> kernels_;
  std::vector<Dispatch> dispatches_;
  std::vector<Window> windows_;
  std::vector<std::uint64_t> batches_, streams_;
  std::vector<ScheduleSpec> schedules_;
  std::vector<std::uint32_t> pools_;
  std::uint64_t turns_ = 0;
  std::uint32_t n_memories_ = 0;
  bool steals_ = false;
  std::vector<DType> slots_;
  std::vector<TaskSpec> tasks_;
  std::vector<ScalarSpec> scalars_;
  std::vector<ReadSpec> reads_;
  std::vector<GatherSpec> gathers_;
  std::vector<ChannelInfo> channels_;
  std::vector<PipelineInfo> pipelines_;
  std::vector<PortInfo> ports_;
  std::vector<Node> nodes_;
  std::uint32_t root_ = 0;
  std::uint32_t lanes_ = 1;
  std::uint64_t issue_cost_ = 0, handover_ = 0, read_cost_ = 0;
  DepsMode deps_mode_ = DepsMode::exact;
  std::uint32_t n_handles_ = 0;
  std::size_t max_gather_ = 0;
  std::uint64_t written_slots_ = 0;  // a bit each
  bool independent_ = true, foreseeable_ = true;
  Demands demands_;
};

}  // namespace pto_wsp
