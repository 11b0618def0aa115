#include "pto_wsp/placer.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

const ScheduleSpec nothing_said;

std::int64_t floored_mod(std::int64_t a, std::int64_t n) {
  const std::int64_t r = a % n;
  return r < 0 ? r + n : r;
}

}  // namespace

void Placer::prepare(const BoundPlan& plan) {
  plan_ = &plan;
  const Plan& p = plan.plan();
  plain_ = p.schedules().empty() && p.batches().empty() && !p.steals() && !p.demands().any() &&
           p.turns() == 0 && p.pools().size() == 1 &&
           std::ranges::all_of(p.dispatches(), [&](const Dispatch& d) { return d.lanes <= p.lanes(); }) &&
           std::ranges::all_of(p.windows(), [](const Window& w) { return w.mode == WindowMode::stall; });
  id_ = 0;
  lanes_.clear();
  for (const Dispatch& d : p.dispatches()) lanes_.push_back(d.lanes);
  lanes_.push_back(p.lanes());
  next_.assign(lanes_.size(), 0);
  first_lane_.clear();
  for (std::uint32_t first = 0; const std::uint32_t lanes : p.pools()) {
    first_lane_.push_back(first);
    first += lanes;
  }
  memories_.assign(p.n_memories(), {});
  stream_ = {};
}

bool Placer::place_by_rules(const BoundTask& t, const std::int64_t* regs, const Arg* args, std::uint64_t cost, Placement& out,
                            Failure& failure) {
  const Plan& p = plan_->plan();
  const TaskSpec& spec = *t.spec;
  const ScheduleSpec& s = spec.schedule == none ? nothing_said : p.schedules()[spec.schedule];
  if (!place_lane(s, t, regs, cost, out, failure)) return false;
  out.batch = spec.batch == none ? no_batch : spec.batch;
  out.steal = spec.steal;
  out.pinned = spec.dispatch != none && p.dispatches()[spec.dispatch].pinned;
  const std::uint32_t lanes = p.lanes();
  const auto rule = [&](const Rule& r, std::uint32_t which, std::int64_t& value_of) {
    value_of = 0;
    return !r.exists || value(r, which, t, {regs, id_, cost, 0, lanes, memories_[r.memory]}, value_of, failure);
  };
  stream_ = {s.stream_scope, 0};
  std::int64_t distance = 0;
  if (!rule(s.stream, 1, stream_.number) || !rule(s.priority, 2, out.priority) || !rule(s.distance, 3, distance)) return false;
  if (s.stream_scope != none && p.streams()[s.stream_scope] != 0)
    stream_.number = floored_mod(stream_.number, static_cast<std::int64_t>(p.streams()[s.stream_scope]));
  if (distance < 0) return failed(t, regs, 3, static_cast<std::uint8_t>(PlacingStatus::negative_distance), distance, failure);
  out.distance = static_cast<std::uint64_t>(distance);
  out.bytes = p.counts_bytes() ? written_bytes(*plan_, t, args) : 0;
  ++id_;
  return true;
}

// The pool comes first, as lanes are dealt out within it.
bool Placer::place_lane(const ScheduleSpec& s, const BoundTask& t, const std::int64_t* regs, std::uint64_t cost, Placement& out,
                        Failure& failure) {
  const Plan& p = plan_->plan();
  std::int64_t pool = 0;
  if (s.pool.exists) {
    if (!value(s.pool, 4, t, {regs, id_, cost, 0, p.lanes(), memories_[s.pool.memory]}, pool, failure)) return false;
    if (pool < 0 || static_cast<std::uint64_t>(pool) >= p.pools().size())
      return failed(t, regs, 4, static_cast<std::uint8_t>(PlacingStatus::pool_range), pool, failure);
  }
  const auto which = static_cast<std::uint32_t>(pool);
  const std::uint32_t all = p.pools()[which];
  const std::uint32_t dispatch = t.spec->dispatch;
  std::uint64_t lane = 0;
  if (dispatch == none) {
    lane = id_ % all;
  } else if (p.dispatches()[dispatch].cyclic) {
    lane = next(dispatch) % all;
  } else {
    const std::uint32_t lanes = std::min(p.dispatches()[dispatch].lanes, all);
    RuleMemory& memory = memories_[s.lane.memory];
    std::int64_t number = 0;
    if (!value(s.lane, 0, t, {regs, id_, cost, which, lanes, memory}, number, failure)) return false;
    lane = static_cast<std::uint64_t>(floored_mod(number, lanes));
    memory.assign(which, static_cast<std::uint32_t>(lane), cost);
  }
  out.lane = first_lane_[which] + static_cast<std::uint32_t>(lane);
  return true;
}

bool Placer::value(const Rule& rule, std::uint32_t which, const BoundTask& t, RuleInputs in, std::int64_t& out, Failure& failure) {
  std::uint64_t bits = 0;
  const RuleStatus status = runner_.run(rule, in, bits);
  ++in.memory.position;
  out = static_cast<std::int64_t>(bits);
  return status == RuleStatus::ok || failed(t, in.regs, which, static_cast<std::uint8_t>(status), 0, failure);
}

bool Placer::failed(const BoundTask& t, const std::int64_t* regs, std::uint32_t which, std::uint8_t status, std::int64_t value,
                    Failure& failure) const {
  failure = {.kind = ErrorKind::rule};
  failure.site = t.spec->site;
  failure.coords = plan_->coords(*t.spec, regs);
  failure.values = {which, status, value};
  return false;
}

std::uint64_t written_bytes(const BoundPlan& plan, const BoundTask& t, const Arg* args) {
  const std::span<const Param> params = t.kernel->params();
  const std::span<const BoundArg> bound = plan.args(t);
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < params.size(); ++i) {
    if (params[i].is_scalar || params[i].dir == Dir::in) continue;
    std::uint64_t elements = 1;
    if (bound[i].first_dim != none)
      for (std::uint32_t d = 0; d < bound[i].n_dims; ++d) elements *= static_cast<std::uint64_t>(args[i].region.length[d]);
    else
      elements = static_cast<std::uint64_t>(args[i].tile.rows) * static_cast<std::uint64_t>(args[i].tile.cols);
    bytes += elements * size_of(params[i].dtype);
  }
  return bytes;
}

std::vector<std::uint64_t> look_ahead(const Plan& plan) {
  std::vector<std::uint64_t> out;
  for (const Window& w : plan.windows()) out.push_back(w.mode == WindowMode::stall ? w.tasks : plan.windows().front().tasks);
  return out;
}

std::optional<Failure> window_exceeded(const Plan& plan, std::span<const WindowStats> stats) {
  const std::vector<Window>& windows = plan.windows();
  for (std::size_t i = 0; i < windows.size(); ++i) {
    if (windows[i].mode != WindowMode::abort) continue;
    const WindowStats& s = stats[i];
    const bool bytes = windows[i].bytes != no_bound;
    const std::uint64_t had = bytes ? s.high_bytes : s.high_water, may = bytes ? windows[i].bytes : windows[i].tasks;
    if (had <= may) continue;
    Failure f{.kind = ErrorKind::window};
    f.values = {static_cast<std::int64_t>(i), static_cast<std::int64_t>(had), static_cast<std::int64_t>(may), bytes ? 1 : 0};
    return f;
  }
  return std::nullopt;
}

std::vector<std::int64_t> numbers_of(const Clock::Blocked& b) {
  const auto number = [](std::uint64_t n) { return static_cast<std::int64_t>(std::min<std::uint64_t>(n, INT64_MAX)); };
  return {static_cast<std::int64_t>(b.at), b.window, number(b.tasks), number(b.limit), number(b.bytes), number(b.byte_limit),
          number(b.more_bytes), number(b.issued), b.first ? number(*b.first) : -1, number(b.start)};
}

ClockOptions clock_options(const Plan& plan) {
  ClockOptions o;
  o.lanes = plan.lanes();
  o.issue_cost = plan.issue_cost();
  o.handover = plan.handover();
  o.read_cost = plan.read_cost();
  o.batches = plan.batches();
  o.ranked = plan.ranked();
  o.steals = plan.steals();
  o.pools = plan.pools();
  o.start = plan.demands().start;
  o.windows.clear();
  for (const Window& w : plan.windows()) {
    const bool limits = w.mode == WindowMode::stall;
    o.windows.push_back(limits ? w.tasks : no_limit);
    if (plan.counts_bytes()) o.window_bytes.push_back(limits ? w.bytes : no_limit);
  }
  return o;
}

}  // namespace pto_wsp
