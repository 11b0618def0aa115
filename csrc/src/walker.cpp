#include "pto_wsp/walker.hpp"

#include <algorithm>
#include <memory>

#include "pto_wsp/isa.hpp"

namespace pto_wsp {
namespace {

constexpr int steps_between_pauses = 4096;

}  // namespace

void Walker::reset(const BoundPlan& plan, std::uint32_t node, const std::vector<std::int64_t>& regs) {
  plan_ = &plan;
  regs_ = regs;
  slots_ = plan.initial_slots();
  depth_ = 0;
  first_ = node;
  task_ = none;
}

void Walker::branch(const Walker& from, std::uint32_t node) {
  plan_ = from.plan_;
  regs_ = from.regs_;
  slots_ = from.slots_;
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
    if (f.node->kind == NodeKind::consume) [[unlikely]] {
      if (consume(f, event)) return event;
      continue;
    }
    if (f.asking) {
      if (ask(f, event)) return event;
      continue;
    }
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
      if (f.node->conditional) {
        f.asking = true;
        if (start(child, event)) return event;
        continue;
      }
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

// One token after the other: it is asked for, and taken before the next call.
bool Walker::consume(Frame& f, Event& event) {
  if (!f.asking) {
    f.asking = true;
    met_ = f.node;
    event = Event::consume;
    return true;
  }
  f.asking = false;
  if (!left_) return start(plan_->child(*f.node, 0), event);
  left_ = false;
  --depth_;
  return false;
}

// The condition of a loop has been computed.
bool Walker::ask(Frame& f, Event& event) {
  f.asking = false;
  std::uint64_t go_on = 0;
  if (!plan_->operand(*f.node, f.node->plan->operand, regs_.data(), go_on, failure_)) {
    event = Event::failed;
    return true;
  }
  if (go_on == 0) {
    f.i = f.n;
    return false;
  }
  ++f.i;
  f.inside = true;
  return start(plan_->child(*f.node, 1), event);
}

// True: there is something to tell before going on.
bool Walker::start(std::uint32_t id, Event& event) {
  const BoundNode* n = &plan_->node(id);
  while (n->kind == NodeKind::cond) {
    std::uint64_t chosen = 0;
    if (!plan_->operand(*n, n->plan->operand, regs_.data(), chosen, failure_)) {
      event = Event::failed;
      return true;
    }
    n = &plan_->node(plan_->child(*n, chosen != 0 ? 0 : 1));
  }
  if (n->kind == NodeKind::task) {
    task_ = n->task;
    event = Event::task;
    return true;
  }
  if (n->kind > NodeKind::loop && n->kind != NodeKind::consume) return perform(*n, event);
  std::uint64_t count = n->n_children;
  if (n->kind == NodeKind::loop && !plan_->extent(*n, regs_.data(), count, failure_)) {
    event = Event::failed;
    return true;
  }
  stack_[depth_++] = {n, 0, count, false, false};
  if (n->kind == NodeKind::consume) [[unlikely]] return false;
  event = Event::seq_enter;
  return n->kind == NodeKind::seq || n->sequential;
}

bool Walker::perform(const BoundNode& n, Event& event) {
  event = Event::failed;
  id_ = n.plan->id;
  switch (n.kind) {
    case NodeKind::slot_set:
      return !plan_->operand(n, n.plan->operand, regs_.data(), slots_[id_], failure_);
    case NodeKind::acquire:
      zeroed_ = n.plan->zeroed;
      event = Event::acquire;
      return true;
    case NodeKind::release: event = Event::release; return true;
    case NodeKind::reset: event = Event::reset; return true;
    case NodeKind::pipeline: return meet(n, Event::pipeline, event);
    case NodeKind::send: return meet(n, Event::send, event);
    case NodeKind::receive: return meet(n, Event::receive, event);
    case NodeKind::close: return meet(n, Event::close, event);
    case NodeKind::try_send: return meet(n, Event::try_send, event);
    case NodeKind::query: return meet(n, Event::query, event);
    case NodeKind::read:
      if (plan_->reads()[n.task].spec->wait) {
        bool anything = false;
        if (!plan_->check_read(n, regs_.data(), anything, failure_)) return true;
        reading_ = &n;
        event = Event::read;
        if (anything) return true;
        event = Event::failed;
      }
      break;
    default: break;
  }
  return !plan_->compute(n, regs_.data(), slots_.data(), failure_);
}

bool Walker::meet(const BoundNode& n, Event what, Event& event) {
  met_ = &n;
  event = what;
  return true;
}

std::uint64_t Walker::skip(std::uint64_t most) {
  if (depth_ == 0) return 0;
  Frame& f = stack_[depth_ - 1];
  if (f.node->kind != NodeKind::loop || f.node->sequential || plan_->node(plan_->child(*f.node, 0)).kind != NodeKind::task) return 0;
  const std::uint64_t count = std::min(most, f.n - f.i);
  f.i += count;
  return count;
}

std::optional<Failure> BoundPlan::dry_walk(std::uint64_t budget) const {
  const FpEnv environment;
  std::vector<Arg> args(max_args_);
  std::vector<std::int64_t> indices(plan_->max_gather());
  const auto walker = std::make_unique<Walker>();
  walker->reset(*this, root_, regs_);
  while (budget > 0) {
    switch (walker->next()) {
      case Walker::Event::task: {
        Failure failure;
        if (!prepare(task(walker->task()), walker->regs(), args.data(), failure, indices.data())) return failure;
        --budget;
        break;
      }
      case Walker::Event::failed: return std::move(walker->failure());
      case Walker::Event::end: return std::nullopt;
      case Walker::Event::pause: --budget; break;
      default: break;
    }
  }
  return std::nullopt;
}

}  // namespace pto_wsp
