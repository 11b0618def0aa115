#include "pto_wsp/plan.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "pto_wsp/cursor.hpp"
#include "pto_wsp/rule.hpp"
#include "pto_wsp/scalar.hpp"

namespace pto_wsp {
namespace {

// Times are below this, so that adding a few of them never overflows.
constexpr std::uint64_t max_cycles = std::uint64_t{1} << 60;
constexpr std::uint64_t most_tokens = std::uint64_t{1} << 40, max_fields = 64;

[[noreturn]] void refuse(const std::string& why) { throw PlanError(why); }

}  // namespace

/// One pass over the bytes. Registers are checked like variables of a block-structured language.
class PlanReader {
 public:
  explicit PlanReader(std::span<const std::byte> bytes) : in_(bytes) {}

  Plan read() {
    header();
    tensors();
    slots();
    const std::size_t kernels = in_.count("the number of kernels");
    for (std::size_t i = 0; i < kernels; ++i) plan_.kernels_.push_back(Kernel::decode(in_));
    machine();
    order();
    const std::uint32_t root = region([&] { return node(0); });
    if (in_.remaining() != 0) refuse("bytes follow the end of the plan");
    plan_.root_ = root;
    if (plan_.turns_ != 0 && !plan_.pipelines_.empty()) refuse("issue takes turns in a plan with pipelines");
    mark_around();
    return std::move(plan_);
  }

 private:
  void header() {
    const std::size_t symbols = in_.count("the number of symbols");
    for (std::size_t i = 0; i < symbols; ++i) plan_.symbols_.push_back(in_.str());
    // Every other register is written by a node of its own.
    plan_.n_regs_ = static_cast<std::uint32_t>(
        in_.u(std::min<std::uint64_t>(symbols + in_.remaining(), none - 1), "the number of registers"));
    if (plan_.n_regs_ < symbols) refuse("there are fewer registers than symbols");
    types_.assign(plan_.n_regs_, DType::i64);
    visible_.assign(plan_.n_regs_, false);
    assigned_.assign(plan_.n_regs_, false);
    std::fill_n(visible_.begin(), symbols, true);
    std::fill_n(assigned_.begin(), symbols, true);
  }

  void tensors() {
    const std::size_t n = in_.count("the number of tensors");
    for (std::size_t i = 0; i < n; ++i) {
      TensorInfo t;
      t.name = in_.str();
      t.dtype = static_cast<DType>(in_.u(dtype_count - 1, "a dtype"));
      const std::uint64_t flags = in_.u(7, "a tensor's flags");
      t.read = (flags & 1) != 0;
      t.written = (flags & 2) != 0;
      t.temporary = (flags & 4) != 0;
      if (t.temporary) plan_.independent_ = false;
      const std::uint64_t ndim = in_.u(max_dims, "a tensor's number of dimensions");
      for (std::uint64_t d = 0; d < ndim; ++d) t.dims.push_back(affine());
      plan_.tensors_.push_back(std::move(t));
    }
    acquired_.assign(n, false);
  }

  DType scalar_type() {
    const auto type = static_cast<DType>(in_.u(dtype_count - 1, "a dtype"));
    if (scalar_of(type) != type) refuse("a scalar is an i64, u64, f64 or bool");
    return type;
  }

  void slots() {
    const std::uint64_t n = in_.u(max_slots, "the number of slots");
    for (std::uint64_t i = 0; i < n; ++i) plan_.slots_.push_back(scalar_type());
  }

  void order() {
    plan_.deps_mode_ = static_cast<DepsMode>(in_.u(3, "how dependences are found"));
    plan_.n_handles_ = static_cast<std::uint32_t>(in_.u(std::min<std::uint64_t>(in_.remaining(), none - 1), "the number of handles"));
  }

  void machine() {
    plan_.lanes_ = static_cast<std::uint32_t>(in_.u(65536, "the number of lanes"));
    if (plan_.lanes_ == 0) refuse("a machine has at least one lane");
    plan_.issue_cost_ = in_.u(max_cycles, "the issue cost");
    plan_.handover_ = in_.u(max_cycles, "the handover");
    plan_.read_cost_ = in_.u(max_cycles, "the read cost");
    pools();
    const std::size_t dispatches = in_.count("the number of dispatch scopes");
    for (std::size_t i = 0; i < dispatches; ++i) {
      const std::uint64_t lanes = in_.u(65536, "the lanes of a dispatch scope");
      if (lanes == 0) refuse("a dispatch scope has at least one lane");
      const std::uint64_t flags = in_.u(3, "the flags of a dispatch scope");
      plan_.dispatches_.push_back({static_cast<std::uint32_t>(lanes), (flags & 1) != 0, (flags & 2) != 0});
      if ((flags & 1) != 0) plan_.demands_.pins = true;
    }
    windows();
    const std::size_t batches = in_.count("the number of batch scopes");
    for (std::size_t i = 0; i < batches; ++i) {
      plan_.batches_.push_back(in_.u());
      if (plan_.batches_.back() == 0) refuse("a batch holds at least one task");
    }
    const std::size_t streams = in_.count("the number of stream scopes");
    for (std::size_t i = 0; i < streams; ++i) plan_.streams_.push_back(in_.u(std::uint64_t{1} << 62, "the number of streams"));
    plan_.demands_.start = in_.u();
    plan_.demands_.streams = streams != 0;
    plan_.turns_ = in_.u(std::uint64_t{1} << 62, "the number of turns");
    plan_.n_memories_ = static_cast<std::uint32_t>(in_.u(in_.remaining(), "the number of scopes that remember"));
  }

  void pools() {
    const std::size_t n = in_.count("the number of pools");
    std::uint64_t lanes = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint64_t pool = in_.u(plan_.lanes_, "the lanes of a pool");
      if (pool == 0) refuse("a pool has at least one lane");
      plan_.pools_.push_back(static_cast<std::uint32_t>(pool));
      lanes += pool;
    }
    if (lanes != plan_.lanes_) refuse("the lanes of pools are not those of the machine");
  }

  void windows() {
    const std::size_t windows = in_.count("the number of windows");
    if (windows == 0) refuse("the root window is missing");
    for (std::size_t i = 0; i < windows; ++i) {
      Window w;
      w.tasks = in_.u();
      const std::uint64_t bytes = in_.u();
      if (w.tasks == 0) refuse("a window holds at least one task");
      if (bytes != 0) {
        w.bytes = bytes;
        plan_.demands_.bytes = true;
      }
      w.mode = static_cast<WindowMode>(in_.u(2, "a window's mode"));
      plan_.windows_.push_back(w);
    }
  }

  Affine affine() {
    Affine a;
    a.constant = in_.s();
    const std::size_t n = in_.count("the number of terms", 2);
    for (std::size_t i = 0; i < n; ++i) {
      const auto reg = static_cast<std::uint32_t>(in_.u(none, "a register"));
      const std::int64_t coef = in_.s();
      if (reg >= plan_.n_regs_ || !visible_[reg]) refuse("register " + std::to_string(reg) + " is read where it has no value");
      if (types_[reg] != DType::i64) refuse("register " + std::to_string(reg) + " is no i64, in an index expression");
      for (const Term& t : a.terms)
        if (t.reg == reg) refuse("a register occurs twice in one affine form");
      if (a.terms.size() == 64) refuse("an affine form has more than 64 terms");
      if (coef != 0) a.terms.push_back({reg, coef});
    }
    return a;
  }

  std::uint32_t define() {
    const std::uint64_t reg = in_.u();
    if (reg >= plan_.n_regs_) refuse("register " + std::to_string(reg) + " does not exist");
    if (assigned_[reg]) refuse("register " + std::to_string(reg) + " is written twice");
    assigned_[reg] = true;
    return static_cast<std::uint32_t>(reg);
  }

  void show(std::uint32_t reg, DType type = DType::i64) {
    types_[reg] = type;
    visible_[reg] = true;
    shown_.push_back(reg);
  }

  void hide_since(std::size_t mark) {
    while (shown_.size() > mark) {
      visible_[shown_.back()] = false;
      shown_.pop_back();
    }
  }

  std::uint32_t add(Node n) {
    plan_.nodes_.push_back(std::move(n));
    return static_cast<std::uint32_t>(plan_.nodes_.size() - 1);
  }

  std::uint32_t origin() {
    const std::uint64_t n = in_.u(none, "an origin");
    return n == 0 ? none : static_cast<std::uint32_t>(n - 1);
  }

  Operand operand(DType type) { return operand(type, in_.u(2, "an operand's kind")); }

  Operand operand(DType type, std::uint64_t kind) {
    Operand o;
    o.kind = static_cast<Operand::Kind>(kind);
    switch (o.kind) {
      case Operand::Kind::reg: o.reg = typed_register(type); break;
      case Operand::Kind::constant:
        o.bits = in_.bits();
        if (type == DType::boolean && o.bits > 1) refuse("a constant is not a bool");
        break;
      case Operand::Kind::affine:
        if (type != DType::i64) refuse("an index expression where another type than i64 is needed");
        o.affine = affine();
        break;
      case Operand::Kind::step: break;  // of rules only
    }
    return o;
  }

  std::uint32_t typed_register(DType type) {
    const auto reg = static_cast<std::uint32_t>(in_.u(none, "a register"));
    if (reg >= plan_.n_regs_ || !visible_[reg]) refuse("register " + std::to_string(reg) + " is read where it has no value");
    if (types_[reg] != type) refuse("register " + std::to_string(reg) + " is no " + name_of(type));
    return reg;
  }

  std::uint32_t node(std::uint32_t depth) {
    if (depth == max_depth) refuse("the plan is nested deeper than " + std::to_string(max_depth));
    const std::uint64_t kind = in_.u(19, "a node's kind");
    const bool pure = kind == 0 || kind == 3 || (kind >= 5 && kind <= 8);
    if (in_condition_ && !pure) refuse("a loop's condition does more than compute");
    switch (kind) {
      case 0: return block(NodeKind::block, depth);
      case 1: return block(NodeKind::seq, depth);
      case 2: return loop(depth);
      case 3: return eval();
      case 4: return task();
      case 5: return scalar_node();
      case 6: return read_node();
      case 7: return cond(depth);
      case 8: return slot_get();
      case 9: return slot_set();
      case 10: return acquire();
      case 11: return release();
      case 12: return reset();
      case 13: return pipeline(depth);
      default: return port(static_cast<NodeKind>(kind), depth);
    }
  }

  std::uint32_t block(NodeKind kind, std::uint32_t depth) {
    const std::size_t mark = shown_.size();
    const std::uint32_t id = list(kind, depth);
    hide_since(mark);
    return id;
  }

  // Its registers stay visible.
  std::uint32_t list(NodeKind kind, std::uint32_t depth) {
    Node n;
    n.kind = kind;
    const std::size_t count = in_.count("the number of nodes", 2);
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint32_t child = node(depth + 1);
      // Program order alone is associative: a block within a block is the same list.
      if (kind == NodeKind::block && plan_.nodes_[child].kind == NodeKind::block) {
        const auto& inner = plan_.nodes_[child].children;
        n.children.insert(n.children.end(), inner.begin(), inner.end());
      } else {
        n.children.push_back(child);
      }
    }
    if (n.children.size() == 1) return n.children[0];
    if (kind == NodeKind::seq) plan_.independent_ = false;
    return add(std::move(n));
  }

  // What runs once or not at all, or again: it gives back the temporaries it acquires.
  template <class F>
  std::uint32_t region(F&& f) {
    const std::size_t outer = std::exchange(region_, owned_.size());
    const std::size_t mark = shown_.size();
    const std::uint32_t id = f();
    if (owned_.size() != region_) refuse("a temporary is not released where it was acquired");
    region_ = outer;
    hide_since(mark);
    return id;
  }

  std::uint32_t loop(std::uint32_t depth) {
    Node n;
    n.kind = NodeKind::loop;
    n.origin = origin();
    const std::uint64_t mode = in_.u(2, "a loop's mode");
    n.sequential = mode != 0;
    n.conditional = mode == 2;
    n.reg = define();
    n.a = affine();
    n.id = static_cast<std::uint32_t>(in_.u(none, "a loop's id"));
    if (n.conditional) n.children.push_back(region([&] {
      show(n.reg);
      return condition(n, depth);
    }));
    if (!n.sequential) ++parallel_;
    n.children.push_back(region([&] {
      show(n.reg);
      return node(depth + 1);
    }));
    if (!n.sequential) --parallel_;
    if (n.sequential) plan_.independent_ = false;
    return add(std::move(n));
  }

  std::uint32_t condition(Node& n, std::uint32_t depth) {
    if (depth + 1 == max_depth) refuse("the plan is nested deeper than " + std::to_string(max_depth));
    in_.u(0, "the condition of a loop");
    in_condition_ = true;
    const std::uint32_t id = list(NodeKind::block, depth + 1);
    in_condition_ = false;
    n.operand = operand(DType::boolean);
    return id;
  }

  std::uint32_t eval() {
    Node n;
    n.kind = NodeKind::eval;
    n.origin = origin();
    n.reg = define();
    n.op = static_cast<EvalOp>(in_.u(4, "an operation on registers"));
    n.a = affine();
    n.b = affine();
    show(n.reg);
    return add(std::move(n));
  }

  std::uint32_t scalar_node() {
    Node n;
    n.kind = NodeKind::scalar;
    n.origin = origin();
    n.reg = define();
    ScalarSpec s;
    s.op = static_cast<ScalarOp>(in_.u(static_cast<std::uint64_t>(ScalarOp::cast), "an operation on scalars"));
    s.type = scalar_type();
    s.checked = in_.u(1, "a scalar operation's flags") == 1;
    if (s.op == ScalarOp::cast)
      s.to = scalar_type();
    else
      in_.u(0, "the type that only a cast has");
    if (!exists(s.op, s.type)) refuse("a scalar operation does not exist for its type");
    if (in_.u() != arity(s.op)) refuse("a scalar operation has another number of operands");
    for (std::uint32_t i = 0; i < arity(s.op); ++i)
      s.operands.push_back(operand(s.op == ScalarOp::where && i == 0 ? DType::boolean : s.type));
    show(n.reg, result_of(s));
    plan_.scalars_.push_back(std::move(s));
    n.id = static_cast<std::uint32_t>(plan_.scalars_.size() - 1);
    return add(std::move(n));
  }

  std::uint32_t read_node() {
    Node n;
    n.kind = NodeKind::read;
    n.origin = origin();
    n.reg = define();
    ReadSpec r;
    r.kind = static_cast<ReadKind>(in_.u(static_cast<std::uint64_t>(ReadKind::all), "a kind of read"));
    r.tensor = readable();
    const TensorInfo& t = plan_.tensors_[r.tensor];
    r.wait = waits();
    for (std::size_t d = 0; d < t.dims.size(); ++d) {
      r.dims.push_back(sized_dim(DimKind::span));
      if (r.kind == ReadKind::item && r.dims.back().kind != DimKind::index) refuse("an item is a single element");
    }
    show(n.reg, result_of(r.kind, t.dtype));
    plan_.reads_.push_back(std::move(r));
    n.id = static_cast<std::uint32_t>(plan_.reads_.size() - 1);
    return add(std::move(n));
  }

  // A tensor that scalars or indices are read from.
  std::uint32_t readable() {
    const std::uint32_t tensor = index(plan_.tensors_.size(), "tensor");
    if (!plan_.tensors_[tensor].read) refuse("tensor " + plan_.tensors_[tensor].name + " is not declared read");
    use(tensor);
    return tensor;
  }

  void use(std::uint32_t tensor) const {
    const TensorInfo& t = plan_.tensors_[tensor];
    if (t.temporary && !acquired_[tensor]) refuse("tensor " + t.name + " is used where it is not acquired");
  }

  bool waits() {
    const bool wait = in_.u(1, "whether a read waits") == 1;
    if (wait) plan_.independent_ = plan_.foreseeable_ = false;
    return wait;
  }

  // Of a read, or of the index view of a gather: slices and tiles say their own size.
  ViewDim sized_dim(DimKind last) {
    ViewDim v;
    v.kind = static_cast<DimKind>(in_.u(static_cast<std::uint64_t>(last), "a dimension's kind"));
    if (v.kind == DimKind::gather) refuse("an index view or a scalar read gathers");
    v.size = 1;
    v.start = affine();
    if (v.kind == DimKind::tile || v.kind == DimKind::span) v.limit = affine();
    if (v.kind == DimKind::slice || v.kind == DimKind::tile) {
      v.size = static_cast<std::int32_t>(in_.u(std::numeric_limits<std::int32_t>::max(), "a length"));
      if (v.size == 0 && v.kind == DimKind::tile) refuse("a tile has no elements");
    }
    return v;
  }

  std::uint32_t cond(std::uint32_t depth) {
    Node n;
    n.kind = NodeKind::cond;
    n.origin = origin();
    n.operand = operand(DType::boolean);
    for (int branch = 0; branch < 2; ++branch) n.children.push_back(region([&] { return node(depth + 1); }));
    return add(std::move(n));
  }

  std::uint32_t slot_get() {
    Node n;
    n.kind = NodeKind::slot_get;
    n.origin = origin();
    n.reg = define();
    n.id = index(plan_.slots_.size(), "slot");
    show(n.reg, plan_.slots_[n.id]);
    return add(std::move(n));
  }

  std::uint32_t slot_set() {
    Node n;
    n.kind = NodeKind::slot_set;
    n.origin = origin();
    n.id = index(plan_.slots_.size(), "slot");
    n.operand = operand(plan_.slots_[n.id]);
    plan_.written_slots_ |= std::uint64_t{1} << n.id;
    plan_.independent_ = false;
    return add(std::move(n));
  }

  std::uint32_t temporary() {
    const std::uint32_t tensor = index(plan_.tensors_.size(), "tensor");
    if (!plan_.tensors_[tensor].temporary) refuse("tensor " + plan_.tensors_[tensor].name + " is no temporary");
    return tensor;
  }

  std::uint32_t acquire() {
    Node n;
    n.kind = NodeKind::acquire;
    n.id = temporary();
    n.zeroed = in_.u(1, "whether a temporary begins as zeros") == 1;
    if (parallel_ != 0) refuse("a temporary is acquired inside a parallel loop");
    if (acquired_[n.id]) refuse("a temporary is acquired twice");
    acquired_[n.id] = true;
    owned_.push_back(n.id);
    return add(std::move(n));
  }

  std::uint32_t release() {
    Node n;
    n.kind = NodeKind::release;
    n.id = temporary();
    const auto first = owned_.begin() + static_cast<std::ptrdiff_t>(region_);
    const auto own = std::find(first, owned_.end(), n.id);
    if (own == owned_.end()) refuse("a temporary is released where it was not acquired");
    owned_.erase(own);
    acquired_[n.id] = false;
    return add(std::move(n));
  }

  std::uint32_t reset() {
    Node n;
    n.kind = NodeKind::reset;
    n.id = handle();
    return add(std::move(n));
  }

  std::uint32_t handle() {
    plan_.independent_ = false;
    return index(plan_.n_handles_, "handle");
  }

  std::uint32_t pipeline(std::uint32_t depth) {
    Node n;
    n.kind = NodeKind::pipeline;
    n.origin = origin();
    plan_.independent_ = false;
    PipelineInfo p;
    p.window = index(plan_.windows_.size(), "window");
    const std::uint64_t batch = in_.u(plan_.batches_.size(), "a batch scope");
    if (batch != 0) p.batch = static_cast<std::uint32_t>(batch - 1);
    p.first_channel = static_cast<std::uint32_t>(plan_.channels_.size());
    p.n_channels = static_cast<std::uint32_t>(in_.count("the number of channels"));
    for (std::uint32_t i = 0; i < p.n_channels; ++i) plan_.channels_.push_back(channel());
    const std::size_t processes = in_.count("the number of processes", 2);
    if (processes == 0) refuse("a pipeline has at least one process");
    const Around outer = std::exchange(around_, {true, p.first_channel, p.n_channels, {}, {}});
    p.consumers.resize(p.n_channels);
    for (std::size_t i = 0; i < processes; ++i) {
      around_.produces.assign(p.n_channels, false);
      around_.consumes.assign(p.n_channels, false);
      std::vector<std::uint32_t>& produces = p.produces.emplace_back();
      const std::size_t ends = in_.count("the channels that a process may send into");
      for (std::size_t k = 0; k < ends; ++k) {
        produces.push_back(index(p.n_channels, "channel"));
        if (around_.produces[produces.back()]) refuse("a process has an end of a channel twice");
        around_.produces[produces.back()] = true;
      }
      n.children.push_back(region([&] { return node(depth + 1); }));
      for (std::uint32_t c = 0; c < p.n_channels; ++c)
        if (around_.consumes[c]) p.consumers[c].push_back(static_cast<std::uint32_t>(i));
    }
    around_ = outer;
    plan_.pipelines_.push_back(std::move(p));
    n.id = static_cast<std::uint32_t>(plan_.pipelines_.size() - 1);
    return add(std::move(n));
  }

  ChannelInfo channel() {
    ChannelInfo c;
    c.capacity = in_.u(most_tokens + 1, "the capacity of a channel") - 1;  // 0: no bound
    c.latency = in_.u(max_cycles, "a latency");
    c.response = in_.u(max_cycles, "a response");
    c.initial = in_.u(std::min(c.capacity, most_tokens), "the number of initial tokens");
    const std::uint64_t fields = in_.u(max_fields, "the number of fields of a token");
    for (std::uint64_t i = 0; i < fields; ++i) c.fields.push_back(scalar_type());
    return c;
  }

  // What a process does with a channel of the innermost pipeline around.
  std::uint32_t port(NodeKind kind, std::uint32_t depth) {
    Node n;
    n.kind = kind;
    n.origin = origin();
    if (!around_.pipeline) refuse("a channel is used outside of a process");
    PortInfo p;
    p.channel = index(around_.n_channels, "channel");
    const std::vector<DType> fields = plan_.channels_[around_.first_channel + p.channel].fields;
    const bool sends = kind == NodeKind::send || kind == NodeKind::try_send;
    if ((sends || kind == NodeKind::close) && !around_.produces[p.channel]) refuse("a process has no such end of a channel");
    if (sends)
      for (const DType type : fields) p.operands.push_back(operand(type));
    const bool takes = kind == NodeKind::receive || kind == NodeKind::consume;
    if (takes) around_.consumes[p.channel] = true;
    if (takes)
      for (std::size_t i = 0; i < fields.size(); ++i) p.regs.push_back(define());
    if (kind == NodeKind::try_send || kind == NodeKind::query) {
      n.reg = define();
      show(n.reg, DType::boolean);
    }
    const auto take = [&] {
      for (std::size_t i = 0; i < fields.size(); ++i) show(p.regs[i], fields[i]);
    };
    if (kind == NodeKind::receive) take();
    if (kind == NodeKind::consume) n.children.push_back(region([&] {
      take();
      return node(depth + 1);
    }));
    plan_.ports_.push_back(std::move(p));
    n.id = static_cast<std::uint32_t>(plan_.ports_.size() - 1);
    return add(std::move(n));
  }

  std::uint32_t task() {
    TaskSpec t;
    t.kernel = index(plan_.kernels_.size(), "kernel");
    t.site = static_cast<std::uint32_t>(in_.u(none - 1, "a site"));
    const std::uint64_t dispatch = in_.u(plan_.dispatches_.size(), "a dispatch scope");
    t.dispatch = dispatch == 0 ? none : static_cast<std::uint32_t>(dispatch - 1);
    t.window = index(plan_.windows_.size(), "window");
    const std::size_t coords = in_.count("the number of coordinates", 2);
    for (std::size_t i = 0; i < coords; ++i) t.coords.push_back(affine());
    for (const Param& p : plan_.kernels_[t.kernel].params()) t.args.push_back(p.is_scalar ? scalar(p) : p.is_region ? region(p) : tile(p));
    if (const std::uint64_t joins = in_.u(plan_.n_handles_, "a handle"); joins != 0) {
      t.handle = static_cast<std::uint32_t>(joins - 1);
      plan_.independent_ = false;
    }
    const std::size_t after = in_.count("the number of handles to wait for");
    for (std::size_t i = 0; i < after; ++i) t.after.push_back(handle());
    schedule(t);
    plan_.max_gather_ = std::max(plan_.max_gather_, std::exchange(gathered_, 0));
    plan_.tasks_.push_back(std::move(t));
    Node n;
    n.kind = NodeKind::task;
    n.id = static_cast<std::uint32_t>(plan_.tasks_.size() - 1);
    return add(std::move(n));
  }

  void schedule(TaskSpec& t) {
    const std::uint64_t batch = in_.u(plan_.batches_.size(), "a batch scope");
    if (batch != 0) t.batch = static_cast<std::uint32_t>(batch - 1);
    t.steal = in_.u(1, "whether a task may be stolen") == 1;
    plan_.steals_ |= t.steal;
    ScheduleSpec s;
    const std::uint64_t stream = in_.u(plan_.streams_.size(), "a stream scope");
    if (stream != 0) s.stream_scope = static_cast<std::uint32_t>(stream - 1);
    for (Rule* r : {&s.lane, &s.stream, &s.priority, &s.distance, &s.pool}) *r = rule();
    if (s.stream.exists != (stream != 0)) refuse("a task is of a stream scope without a stream");
    const bool dealt = t.dispatch != none && !plan_.dispatches_[t.dispatch].cyclic;
    if (s.lane.exists != dealt) refuse("a task has a lane of its own and none that the scope deals out, or neither");
    plan_.demands_.priorities |= s.priority.exists;
    if (!dealt && stream == 0 && !s.priority.exists && !s.distance.exists && !s.pool.exists) return;
    t.schedule = static_cast<std::uint32_t>(plan_.schedules_.size());
    plan_.schedules_.push_back(std::move(s));
  }

  Rule rule() {
    Rule r;
    const std::uint64_t steps = in_.u(in_.remaining() + 1, "the number of steps of a rule");
    if (steps == 0) return r;
    r.exists = true;
    r.memory = index(plan_.n_memories_, "scope that remembers");
    std::vector<DType> given;
    std::uint32_t asked = 0;
    for (std::uint64_t i = 0; i + 1 < steps; ++i) {
      const std::string name = in_.str();
      RuleStep step;
      step.op = find_rule_op(name);
      if (step.op == nullptr) refuse("there is no operation of rules called " + name);
      step.number = asked;
      if (!step.op->scalar) ++asked;
      step.type = scalar_type();
      step.to = scalar_type();
      if (!step.op->takes(step.type)) refuse("an operation of rules does not exist for its type");
      for (std::uint32_t k = 0; k < step.op->arity; ++k)
        step.operands.push_back(rule_operand(step.op->condition && k == 0 ? DType::boolean : step.type, given));
      given.push_back(step.op->gives(step.type, step.to));
      r.steps.push_back(std::move(step));
    }
    const DType type = scalar_type();
    if (type != DType::i64 && type != DType::u64) refuse("a rule gives no integer");
    r.result = rule_operand(type, given);
    return r;
  }

  Operand rule_operand(DType type, const std::vector<DType>& given) {
    const std::uint64_t kind = in_.u(3, "an operand's kind");
    if (kind != 3) return operand(type, kind);
    Operand o;
    o.kind = Operand::Kind::step;
    o.reg = index(given.size(), "step of a rule");
    if (given[o.reg] != type) refuse("a step of a rule gives another type");
    return o;
  }

  std::uint32_t index(std::size_t size, const char* what) {
    const std::uint64_t i = in_.u();
    if (i >= size) refuse(std::string(what) + " " + std::to_string(i) + " does not exist");
    return static_cast<std::uint32_t>(i);
  }

  ArgSpec scalar(const Param& p) {
    ArgSpec a;
    a.is_scalar = true;
    const std::uint64_t kind = in_.u(2, "a scalar argument's kind");
    a.constant = kind == 0;
    if (a.constant) {
      a.value = in_.bits();
      if (!fits(a.value, p.dtype)) refuse(std::string("a scalar argument is no ") + name_of(p.dtype));
    } else if (kind == 1) {
      a.affine = affine();
    } else {
      const auto reg = static_cast<std::uint32_t>(in_.u(none, "a register"));
      a.reg_type = scalar_type();
      if (reg >= plan_.n_regs_ || !visible_[reg]) refuse("register " + std::to_string(reg) + " is read where it has no value");
      if (types_[reg] != a.reg_type) refuse("register " + std::to_string(reg) + " is no " + name_of(a.reg_type));
      if (a.reg_type == DType::f64 && !is_float(p.dtype)) refuse("a scalar argument is no integer");
      a.reg = reg;
    }
    return a;
  }

  // The tensor of an argument.
  ArgSpec memory(const Param& p) {
    ArgSpec a;
    a.tensor = index(plan_.tensors_.size(), "tensor");
    a.tracked = in_.u(1, "a tracking flag") == 1;
    use(a.tensor);
    const TensorInfo& t = plan_.tensors_[a.tensor];
    if (t.dtype != p.dtype) refuse("tensor " + t.name + " has another dtype than the parameter it is given to");
    if (p.dir != Dir::in && !t.written) refuse("tensor " + t.name + " is not declared written");
    if (p.dir != Dir::out && !t.read) refuse("tensor " + t.name + " is not declared read");
    if (a.tracked) plan_.independent_ = false;
    return a;
  }

  ArgSpec region(const Param& p) {
    ArgSpec a = memory(p);
    a.is_region = true;
    const TensorInfo& t = plan_.tensors_[a.tensor];
    for (std::uint32_t d = 0; d < t.dims.size(); ++d) {
      ViewDim v = sized_dim(DimKind::span);
      if (v.kind == DimKind::gather) refuse("a region is not gathered");
      if (v.kind != DimKind::index) {
        if (a.kept.size() == p.rank) refuse("a region keeps too many dimensions");
        const std::int32_t size = p.dims[a.kept.size()];
        if (size >= 0 && (v.kind != DimKind::slice || v.size != size)) refuse("a region has another size than its parameter");
        a.kept.push_back(d);
      }
      a.dims.push_back(std::move(v));
    }
    if (a.kept.size() != p.rank) refuse("a region keeps too few dimensions");
    return a;
  }

  ArgSpec tile(const Param& p) {
    ArgSpec a = memory(p);
    const TensorInfo& t = plan_.tensors_[a.tensor];
    std::uint32_t kept = 0;
    for (std::uint32_t d = 0; d < t.dims.size(); ++d) {
      ViewDim v;
      v.kind = static_cast<DimKind>(in_.u(3, "a dimension's kind"));
      v.size = 1;
      if (v.kind != DimKind::gather) v.start = affine();
      if (v.kind != DimKind::index) {
        if (kept == 2) refuse("a tile view keeps more than two dimensions");
        (kept == 0 ? a.row_dim : a.col_dim) = d;
        v.size = kept == 0 ? p.rows : p.cols;
        ++kept;
      }
      if (v.kind == DimKind::tile) v.limit = affine();
      if (v.kind == DimKind::gather) v.gather = gather(v.size);
      a.dims.push_back(std::move(v));
    }
    if (kept != 2) refuse("a tile view keeps fewer than two dimensions");
    return a;
  }

  // The elements that `size` rows or columns of a parameter are.
  std::uint32_t gather(std::int32_t size) {
    GatherSpec g;
    g.tensor = readable();
    const TensorInfo& t = plan_.tensors_[g.tensor];
    if (t.dtype != DType::i32 && t.dtype != DType::i64) refuse("tensor " + t.name + " holds no indices: they are i32 or i64");
    g.wait = waits();
    g.size = size;
    std::uint32_t kept = 0;
    for (std::uint32_t d = 0; d < t.dims.size(); ++d) {
      g.dims.push_back(sized_dim(DimKind::tile));
      if (g.dims.back().kind == DimKind::index) continue;
      if (g.dims.back().size != size) refuse("a gather has another number of indices than its parameter has rows or columns");
      g.kept = d;
      ++kept;
    }
    if (kept != 1) refuse("an index view keeps one dimension");
    gathered_ += static_cast<std::size_t>(size);
    plan_.gathers_.push_back(std::move(g));
    return static_cast<std::uint32_t>(plan_.gathers_.size() - 1);
  }

  void mark_around() {
    for (std::uint32_t i = 0; i < plan_.nodes_.size(); ++i)
      for (const std::uint32_t child : plan_.nodes_[i].children) plan_.nodes_[child].around = i;
  }

  Cursor in_;
  Plan plan_;
  std::vector<DType> types_;          // of registers
  std::vector<bool> visible_, assigned_;
  std::vector<std::uint32_t> shown_;
  std::vector<bool> acquired_;        // tensors
  std::vector<std::uint32_t> owned_;  // acquired ones, those of the region from `region_` on
  std::size_t region_ = 0;
  std::uint32_t parallel_ = 0;        // loops around
  bool in_condition_ = false;
  // The innermost process that is being read.
  struct Around {
    bool pipeline = false;
    std::uint32_t first_channel = 0, n_channels = 0;
    std::vector<bool> produces, consumes;
  };
  Around around_;
  std::size_t gathered_ = 0;          // indices, of the task being read
};

Plan Plan::decode(std::span<const std::byte> bytes) {
  constexpr char magic[] = {'P', 'W', 'P', 'L'};
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(bytes[i]); };
  if (bytes.size() < 8 || !std::equal(magic, magic + 4, reinterpret_cast<const char*>(bytes.data())))
    refuse("this is not a plan");
  const std::uint32_t version = byte(4) | byte(5) << 8 | byte(6) << 16 | byte(7) << 24;
  if (version != plan_version)
    refuse("the plan has version " + std::to_string(version) + ", this runtime reads version " + std::to_string(plan_version));
  return PlanReader(bytes.subspan(8)).read();
}

std::vector<std::uint32_t> Plan::loops_around(const Node& n) const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = n.around; i != none; i = nodes_[i].around)
    if (nodes_[i].kind == NodeKind::loop) out.push_back(nodes_[i].reg);
  std::ranges::reverse(out);
  return out;
}

}  // namespace pto_wsp
