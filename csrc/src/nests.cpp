#include <algorithm>

#include "pto_wsp/independent.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint64_t max_nest_size = std::uint64_t{1} << 40;
constexpr std::uint64_t few_iterations = 64;
constexpr std::size_t max_nests = 4096;
constexpr std::uint64_t max_visits = 65536;
constexpr std::uint64_t max_weighed = std::uint64_t{1} << 20;  // nodes
constexpr std::uint64_t max_work = std::uint64_t{1} << 50;  // of a nest
constexpr std::uint64_t heavy = 256;
constexpr std::size_t max_saved_regs = std::size_t{1} << 20;

class Unroller {
 public:
  explicit Unroller(const BoundPlan& plan) : plan_(plan), regs_(plan.initial_regs()) {
    budget_ = std::min(max_nests, max_saved_regs / std::max<std::size_t>(regs_.size(), 1));
  }

  std::vector<Nest> nests() {
    expand(plan_.root());
    return std::move(nests_);
  }

 private:
  // False: an error was left to a nest, nothing after it will run.
  bool expand(std::uint32_t id) {
    ++visits_;
    const BoundNode& n = plan_.node(id);
    if (n.kind == NodeKind::eval || n.kind == NodeKind::scalar || n.kind == NodeKind::read || n.kind == NodeKind::slot_get)
      return evaluate_here(id, n);
    if (n.kind == NodeKind::cond && n.loops) return expand_branch(id, n);
    if (n.kind == NodeKind::loop) return expand_loop(id, n);
    if (n.kind == NodeKind::task || !n.loops) {
      emit(id, {}, 1);
      return true;
    }
    for (std::uint32_t c = 0; c < n.n_children; ++c)
      if (!expand(plan_.child(n, c))) return false;
    return true;
  }

  bool evaluate_here(std::uint32_t id, const BoundNode& n) {
    if (plan_.compute(n, regs_.data(), plan_.initial_slots().data(), ignored_)) return true;
    emit(id, {}, 1);
    return false;
  }

  bool expand_branch(std::uint32_t id, const BoundNode& n) {
    std::uint64_t chosen = 0;
    if (plan_.operand(n, n.plan->operand, regs_.data(), chosen, ignored_)) return expand(plan_.child(n, chosen != 0 ? 0 : 1));
    emit(id, {}, 1);
    return false;
  }

  bool expand_loop(std::uint32_t id, const BoundNode& n) {
    std::uint64_t first = 0;
    if (!plan_.extent(n, regs_.data(), first, ignored_)) {
      emit(id, {}, 1);
      return false;
    }
    std::vector<Nest::Level> levels;
    std::uint64_t size = 1;
    std::uint32_t body = id;
    while (true) {
      const BoundNode& b = plan_.node(body);
      if (b.kind != NodeKind::loop || (b.checked && !levels.empty()) || depends_on(b.extent, levels)) break;
      const std::uint64_t extent = levels.empty() ? first : plan_.value(b.extent, regs_.data());
      if (extent == 0 || b.n_children == 0) return true;
      if (extent > max_nest_size / size) break;
      size *= extent;
      levels.push_back({b.reg, extent});
      body = plan_.child(b, 0);
    }
    const bool unroll = !levels.empty() && plan_.node(body).loops && size <= few_iterations && nests_.size() < budget_ &&
                        visits_ < max_visits;  // loops may be without iterations, so that nests do not tell how long this takes
    const bool uneven = !levels.empty() && plan_.node(body).ragged && plan_.node(body).loops;
    if (!unroll && uneven && size <= (max_weighed - weighed_) / 4) return split(body, levels, size);
    if (!unroll) {
      emit(body, std::move(levels), size);
      return true;
    }
    Nest around;
    around.levels = std::move(levels);
    for (std::uint64_t i = 0; i < size; ++i) {
      around.seek(i, regs_.data());
      if (!expand(body)) return false;
    }
    return true;
  }

  // Iterations that have much more to do than others become nests of their own, of which threads take parts.
  bool split(std::uint32_t body, const std::vector<Nest::Level>& levels, std::uint64_t size) {
    Nest around;
    around.levels = levels;
    std::vector<std::uint64_t> weights(size);
    std::uint64_t total = 0;
    for (std::uint64_t i = 0; i < size; ++i) {
      around.seek(i, regs_.data());
      weights[i] = weigh(body);
      total = std::min(total + weights[i], max_work);
    }
    const std::uint64_t limit = std::max(heavy, total / 1024);
    std::uint64_t from = 0;
    const auto slice = [&](std::uint64_t to) {
      if (from == to) return;
      emit(body, levels, to - from);
      nests_.back().begin = from;
      std::uint64_t sum = 0;
      for (std::uint64_t i = from; i < to; ++i) sum = std::min(sum + weights[i], max_work);
      weight(nests_.back(), sum / (to - from));
    };
    for (std::uint64_t i = 0; i < size; ++i) {
      if (weights[i] <= limit || nests_.size() + 1 >= budget_) continue;
      slice(i);
      from = i + 1;
      around.seek(i, regs_.data());
      if (!expand(body)) return false;
    }
    slice(size);
    return true;
  }

  // About how many tasks there are below a node, from the first iteration of each loop.
  std::uint64_t weigh(std::uint32_t id) {
    const BoundNode& n = plan_.node(id);
    if (n.kind == NodeKind::task || weighed_ == max_weighed) return 1;
    ++weighed_;
    if (n.kind == NodeKind::cond) {
      std::uint64_t chosen = 0;
      return plan_.operand(n, n.plan->operand, regs_.data(), chosen, ignored_) ? weigh(plan_.child(n, chosen != 0 ? 0 : 1)) : 1;
    }
    if (n.kind == NodeKind::loop) {
      std::uint64_t extent = 0;
      if (!plan_.extent(n, regs_.data(), extent, ignored_) || extent == 0 || n.n_children == 0) return 1;
      regs_[n.reg] = 0;
      const std::uint64_t each = std::max<std::uint64_t>(weigh(plan_.child(n, 0)), 1);
      return extent > max_work / each ? max_work : extent * each;
    }
    if (n.kind != NodeKind::block) {
      plan_.compute(n, regs_.data(), plan_.initial_slots().data(), ignored_);
      return 0;
    }
    std::uint64_t sum = 0;
    for (std::uint32_t c = 0; c < n.n_children; ++c) sum = std::min(sum + weigh(plan_.child(n, c)), max_work);
    return std::max<std::uint64_t>(sum, 1);
  }

  static void weight(Nest& nest, std::uint64_t tasks) {
    nest.weight = std::clamp<std::uint64_t>(tasks, 1, std::max<std::uint64_t>(max_work / nest.size, 1));
  }

  bool depends_on(const Linear& extent, const std::vector<Nest::Level>& levels) const {
    return std::ranges::any_of(plan_.terms(extent), [&](const LinearTerm& t) {
      return std::ranges::any_of(levels, [&](const Nest::Level& l) { return l.reg == t.reg; });
    });
  }

  void emit(std::uint32_t body, std::vector<Nest::Level> levels, std::uint64_t size) {
    Nest nest;
    nest.body = body;
    if (plan_.node(body).kind == NodeKind::task) nest.task = plan_.node(body).task;
    nest.first = nests_.empty() ? 0 : nests_.back().first + nests_.back().size;
    nest.size = size;
    nest.levels = std::move(levels);
    nest.regs = regs_;
    for (const Nest::Level& l : nest.levels) regs_[l.reg] = 0;
    if (nest.task == none) weight(nest, weigh(body));
    if (!nests_.empty()) nest.work_before = nests_.back().work_before + nests_.back().size * nests_.back().weight;
    nests_.push_back(std::move(nest));
  }

  const BoundPlan& plan_;
  std::vector<std::int64_t> regs_;
  std::vector<Nest> nests_;
  Failure ignored_;  // the body that has it tells it
  std::size_t budget_ = 0;
  std::uint64_t visits_ = 0, weighed_ = 0;
};

}  // namespace

void Nest::seek(std::uint64_t i, std::int64_t* at) const {
  i += begin;
  for (std::size_t l = levels.size(); l-- > 0;) {
    at[levels[l].reg] = static_cast<std::int64_t>(i % levels[l].extent);
    i /= levels[l].extent;
  }
}

void Nest::step(std::int64_t* at) const {
  for (std::size_t l = levels.size(); l-- > 0;) {
    std::int64_t& r = at[levels[l].reg];
    if (static_cast<std::uint64_t>(++r) < levels[l].extent) return;
    r = 0;
  }
}

std::vector<Nest> nests_of(const BoundPlan& plan) { return Unroller(plan).nests(); }

}  // namespace pto_wsp
