#include "pto_wsp/plan.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "pto_wsp/cursor.hpp"

namespace pto_wsp {
namespace {

// Times are below this, so that adding a few of them never overflows.
constexpr std::uint64_t max_cycles = std::uint64_t{1} << 60;

[[noreturn]] void refuse(const std::string& why) { throw PlanError(why); }

}  // namespace

/// One pass over the bytes. Registers are checked like variables of a block-structured language.
class PlanReader {
 public:
  explicit PlanReader(std::span<const std::byte> bytes) : in_(bytes) {}

  Plan read() {
    header();
    tensors();
    const std::size_t kernels = in_.count("the number of kernels");
    for (std::size_t i = 0; i < kernels; ++i) plan_.kernels_.push_back(Kernel::decode(in_));
    machine();
    const std::uint32_t root = node(0);
    if (in_.remaining() != 0) refuse("bytes follow the end of the plan");
    plan_.root_ = root;
    sites();
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
      const std::uint64_t flags = in_.u(3, "a tensor's flags");
      t.read = (flags & 1) != 0;
      t.written = (flags & 2) != 0;
      const std::uint64_t ndim = in_.u(max_dims, "a tensor's number of dimensions");
      for (std::uint64_t d = 0; d < ndim; ++d) t.dims.push_back(affine());
      plan_.tensors_.push_back(std::move(t));
    }
  }

  void machine() {
    plan_.lanes_ = static_cast<std::uint32_t>(in_.u(65536, "the number of lanes"));
    if (plan_.lanes_ == 0) refuse("a machine has at least one lane");
    plan_.issue_cost_ = in_.u(max_cycles, "the issue cost");
    plan_.handover_ = in_.u(max_cycles, "the handover");
    in_.u(max_cycles, "the read cost");  // nothing in this version of the format waits for a read
    const std::size_t dispatches = in_.count("the number of dispatch scopes");
    for (std::size_t i = 0; i < dispatches; ++i) {
      in_.u(0, "a dispatch policy");
      const std::uint64_t lanes = in_.u(plan_.lanes_, "the lanes of a dispatch scope");
      if (lanes == 0) refuse("a dispatch scope has at least one lane");
      plan_.dispatches_.push_back({static_cast<std::uint32_t>(lanes)});
    }
    const std::size_t windows = in_.count("the number of windows");
    if (windows == 0) refuse("the root window is missing");
    for (std::size_t i = 0; i < windows; ++i) {
      const std::uint64_t tasks = in_.u();
      if (tasks == 0) refuse("a window holds at least one task");
      in_.u(0, "a window's mode");
      plan_.windows_.push_back({tasks});
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

  void show(std::uint32_t reg) {
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

  std::uint32_t node(std::uint32_t depth) {
    if (depth == max_depth) refuse("the plan is nested deeper than " + std::to_string(max_depth));
    switch (in_.u(4, "a node's kind")) {
      case 0: return block(NodeKind::block, depth);
      case 1: return block(NodeKind::seq, depth);
      case 2: return loop(depth);
      case 3: return eval();
      default: return task();
    }
  }

  std::uint32_t block(NodeKind kind, std::uint32_t depth) {
    Node n;
    n.kind = kind;
    const std::size_t count = in_.count("the number of nodes", 2);
    const std::size_t mark = shown_.size();
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
    hide_since(mark);
    if (n.children.size() == 1) return n.children[0];
    if (kind == NodeKind::seq) plan_.independent_ = false;
    return add(std::move(n));
  }

  std::uint32_t loop(std::uint32_t depth) {
    Node n;
    n.kind = NodeKind::loop;
    n.sequential = in_.u(1, "a loop's mode") == 1;
    n.reg = define();
    n.a = affine();
    n.id = static_cast<std::uint32_t>(in_.u(none, "a loop's id"));
    const std::size_t mark = shown_.size();
    show(n.reg);
    n.children.push_back(node(depth + 1));
    hide_since(mark);
    if (n.sequential) plan_.independent_ = false;
    return add(std::move(n));
  }

  std::uint32_t eval() {
    Node n;
    n.kind = NodeKind::eval;
    n.reg = define();
    n.op = static_cast<EvalOp>(in_.u(4, "an operation on registers"));
    n.a = affine();
    n.b = affine();
    show(n.reg);
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
    for (const Param& p : plan_.kernels_[t.kernel].params()) t.args.push_back(p.is_scalar ? scalar(p) : tile(p));
    plan_.tasks_.push_back(std::move(t));
    Node n;
    n.kind = NodeKind::task;
    n.id = static_cast<std::uint32_t>(plan_.tasks_.size() - 1);
    return add(std::move(n));
  }

  std::uint32_t index(std::size_t size, const char* what) {
    const std::uint64_t i = in_.u();
    if (i >= size) refuse(std::string(what) + " " + std::to_string(i) + " does not exist");
    return static_cast<std::uint32_t>(i);
  }

  ArgSpec scalar(const Param& p) {
    ArgSpec a;
    a.is_scalar = true;
    a.constant = in_.u(1, "a scalar argument's kind") == 0;
    if (a.constant) {
      a.value = in_.f64();
      const bool fits = p.dtype != DType::i32 || (a.value >= std::numeric_limits<std::int32_t>::min() &&
                                                  a.value <= std::numeric_limits<std::int32_t>::max() &&
                                                  a.value == static_cast<double>(static_cast<std::int32_t>(a.value)));
      if (!fits) refuse("a scalar argument is not an i32");
      if (p.dtype == DType::boolean && a.value != 0 && a.value != 1) refuse("a scalar argument is not a bool");
    } else {
      a.affine = affine();
    }
    return a;
  }

  ArgSpec tile(const Param& p) {
    ArgSpec a;
    a.tensor = index(plan_.tensors_.size(), "tensor");
    a.tracked = in_.u(1, "a tracking flag") == 1;
    const TensorInfo& t = plan_.tensors_[a.tensor];
    if (t.dtype != p.dtype) refuse("tensor " + t.name + " has another dtype than the parameter it is given to");
    if (p.dir != Dir::in && !t.written) refuse("tensor " + t.name + " is not declared written");
    if (p.dir != Dir::out && !t.read) refuse("tensor " + t.name + " is not declared read");
    std::uint32_t kept = 0;
    for (std::uint32_t d = 0; d < t.dims.size(); ++d) {
      ViewDim v;
      v.kind = static_cast<DimKind>(in_.u(2, "a dimension's kind"));
      v.size = 1;
      v.start = affine();
      if (v.kind != DimKind::index) {
        if (kept == 2) refuse("a tile view keeps more than two dimensions");
        (kept == 0 ? a.row_dim : a.col_dim) = d;
        v.size = kept == 0 ? p.rows : p.cols;
        ++kept;
      }
      if (v.kind == DimKind::tile) v.limit = affine();
      a.dims.push_back(std::move(v));
    }
    if (kept != 2) refuse("a tile view keeps fewer than two dimensions");
    if (a.tracked) plan_.independent_ = false;
    return a;
  }

  // Loops and evaluations have no place in the source of their own: the first task at or after them stands in.
  void sites() {
    std::uint32_t next = none;
    mark_sites(plan_.root_, next);
    mark_placed(plan_.root_);
  }

  void mark_sites(std::uint32_t id, std::uint32_t& next) {
    Node& n = plan_.nodes_[id];
    if (n.kind == NodeKind::task) next = n.id;
    for (std::size_t i = n.children.size(); i-- > 0;) mark_sites(n.children[i], next);
    n.next_task = next;
    n.site = next == none ? none : plan_.tasks_[next].site;
  }

  // `visible_` is of the node.
  void mark_placed(std::uint32_t id) {
    Node& n = plan_.nodes_[id];
    if (n.kind == NodeKind::task) return;
    const auto known = [&](const Affine& a) { return std::ranges::all_of(a.terms, [&](const Term& t) { return visible_[t.reg]; }); };
    if (n.kind == NodeKind::loop || n.kind == NodeKind::eval)
      n.placed = n.next_task != none && std::ranges::all_of(plan_.tasks_[n.next_task].coords, known);
    const std::size_t mark = shown_.size();
    if (n.kind == NodeKind::loop) show(n.reg);
    for (const std::uint32_t c : n.children) {
      mark_placed(c);
      if (plan_.nodes_[c].kind == NodeKind::eval) show(plan_.nodes_[c].reg);
    }
    hide_since(mark);
  }

  Cursor in_;
  Plan plan_;
  std::vector<bool> visible_, assigned_;
  std::vector<std::uint32_t> shown_;
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

}  // namespace pto_wsp
