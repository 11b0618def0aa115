#include "pto_wsp/walker.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

constexpr int steps_between_pauses = 4096;

std::int64_t site_of(const BoundNode& n) { return n.plan->site == none ? -1 : static_cast<std::int64_t>(n.plan->site); }

}  // namespace

void Walker::reset(const BoundPlan& plan, std::uint32_t node, const std::vector<std::int64_t>& regs) {
  plan_ = &plan;
  regs_ = regs;
  depth_ = 0;
  first_ = node;
  task_ = none;
}

Walker::Event Walker::next() {
  Event event{};
  if (first_ != none) {
    const std::uint32_t node = first_;
    first_ = none;
    if (start(node, event)) return event;
  }
  while (++steps_ < steps_between_pauses) {
    if (depth_ == 0) return Event::end;
    Frame& f = stack_[depth_ - 1];
    if (f.inside) {
      f.inside = false;
      return Event::seq_next;
    }
    const bool sequential = f.node->kind == NodeKind::seq || f.node->sequential;
    if (f.i == f.n) {
      --depth_;
      if (sequential) return Event::seq_leave;
      continue;
    }
    std::uint32_t child;
    if (f.node->kind == NodeKind::loop) {
      regs_[f.node->reg] = static_cast<std::int64_t>(f.i);
      child = plan_->child(*f.node, 0);
    } else {
      child = plan_->child(*f.node, static_cast<std::uint32_t>(f.i));
    }
    ++f.i;
    f.inside = sequential;
    if (start(child, event)) return event;
  }
  steps_ = 0;
  return Event::pause;
}

// True: there is something to tell before going on.
bool Walker::start(std::uint32_t id, Event& event) {
  const BoundNode& n = plan_->node(id);
  if (n.kind == NodeKind::task) {
    task_ = n.task;
    event = Event::task;
    return true;
  }
  if (n.kind == NodeKind::eval) {
    event = Event::failed;
    return !evaluate_node(n);
  }
  std::uint64_t count = n.n_children;
  if (n.kind == NodeKind::loop && !extent(n, count)) {
    event = Event::failed;
    return true;
  }
  stack_[depth_++] = {&n, 0, count, false};
  event = Event::seq_enter;
  return n.kind == NodeKind::seq || n.sequential;
}

bool Walker::extent(const BoundNode& n, std::uint64_t& out) {
  if (!n.checked) {
    out = plan_->value(n.extent, regs_.data());
    return true;
  }
  std::int64_t value = 0;
  const bool fits = evaluate(n.plan->a, regs_, value);
  if (fits && value >= 0) {
    out = static_cast<std::uint64_t>(value);
    return true;
  }
  failure_ = {.kind = fits ? ErrorKind::extent : ErrorKind::overflow};
  failure_.site = site_of(n);
  failure_.coords = coords_at(plan_->plan(), *n.plan, regs_.data());
  if (fits) failure_.values = {value};
  return false;
}

bool Walker::evaluate_node(const BoundNode& n) {
  std::int64_t a = 0, b = 0, value = 0;
  EvalStatus status = EvalStatus::overflow;
  if (evaluate(n.plan->a, regs_, a) && evaluate(n.plan->b, regs_, b)) status = evaluate(n.plan->op, a, b, value);
  if (status == EvalStatus::ok) {
    regs_[n.reg] = value;
    return true;
  }
  failure_ = {.kind = status == EvalStatus::zero_divisor ? ErrorKind::zero_divisor : ErrorKind::overflow};
  failure_.site = site_of(n);
  failure_.coords = coords_at(plan_->plan(), *n.plan, regs_.data());
  if (status == EvalStatus::zero_divisor) failure_.values = {a};
  return false;
}

std::uint64_t Walker::skip(std::uint64_t most) {
  if (depth_ == 0) return 0;
  Frame& f = stack_[depth_ - 1];
  if (f.node->kind != NodeKind::loop || f.node->sequential || plan_->node(plan_->child(*f.node, 0)).kind != NodeKind::task) return 0;
  const std::uint64_t count = std::min(most, f.n - f.i);
  f.i += count;
  return count;
}

}  // namespace pto_wsp
