// Groups and aliases: see kernel_planner.hpp.

#include "kernel_planner.hpp"

namespace pto_wsp {

void KernelPlanner::run() {
  join_equal_sizes();
  find_segments();
  find_uses();
  alias_loads();
  make_groups();
  alias_stores();
  place_values();
  emit();
}

void KernelPlanner::find_segments() {
  segment_of_.assign(p_.instrs.size(), 0);
  for (std::size_t s = 0; s < p_.segments.size(); ++s)
    for (std::size_t i = 0; i < p_.segments[s].count; ++i) segment_of_[p_.segments[s].first + i] = s;
}

void KernelPlanner::join_equal_sizes() {
  same_size_.resize(2 * p_.params.size());
  for (std::size_t i = 0; i < same_size_.size(); ++i) same_size_[i] = i;
  for (const Check& c : p_.checks)
    if (!c.at_least && of_tile(c.a) && of_tile(c.b)) same_size_[representative(c.a)] = representative(c.b);
}

void KernelPlanner::find_uses() {
  info_.resize(p_.values.size());
  for (std::size_t v = 0; v < info_.size(); ++v) {
    info_[v].rows = p_.values[v].valid_rows;
    info_[v].cols = p_.values[v].valid_cols;
  }
  for (std::size_t i = 0; i < p_.instrs.size(); ++i) {
    if (instr(i).dst >= 0) info_[static_cast<std::size_t>(instr(i).dst)].def = i;
    each_value(instr(i), [&](std::uint32_t v, unsigned) { info_[v].users.push_back(i); });
  }
  for (const ScalarEqn& e : p_.scalars)
    if (e.value >= 0) info_[p_.root[static_cast<std::size_t>(e.value)]].pinned = true;
}

void KernelPlanner::alias_loads() {
  for (ValueInfo& v : info_) {
    if (v.def == nowhere || !is_load(v.def) || instr(v.def).operand == DType::boolean) continue;
    const std::uint32_t param = instr(v.def).src[0].index;
    if (v.pinned && (is_shared(param) || is_carried(param))) continue;
    std::size_t last = v.users.empty() ? v.def : v.users.back();
    for (const std::size_t u : v.users) last = until_loops_end(v.def, u, last, [](std::size_t at) { return at + 1; });
    if (is_shared(param) && part_between(v.def, last)) continue;
    bool stored = false;
    for (std::size_t i = v.def; i < last; ++i) stored = stored || (is_store(i) && instr(i).src[0].index == param);
    if (!stored) v.alias = static_cast<std::int32_t>(param);
  }
}

void KernelPlanner::make_groups() {
  std::vector<std::size_t> last_read(p_.params.size(), nowhere), last_write(p_.params.size(), nowhere);  // group ids
  group_of_.assign(p_.instrs.size(), nowhere);
  order_in_group_.assign(p_.instrs.size(), 0);
  std::size_t floor = 0, segment = 0;
  for (std::size_t i = 0; i < p_.instrs.size(); ++i) {
    if (segment_of_[i] != segment) {
      segment = segment_of_[i];
      floor = positions_.size();
    }
    if (is_alias_load(i)) continue;
    const std::int32_t rows = rows_of(i);
    const bool whole = instr(i).whole;
    std::size_t earliest = floor;  // position
    const auto after = [&](std::size_t group, bool same_rows) {
      if (group == nowhere) return;
      const PlanGroup& g = groups_[group];
      const bool can_share = !whole && !g.whole && same_rows && g.rows == rows && g.segment == segment;
      earliest = std::max(earliest, g.position + (can_share ? 0 : 1));
    };
    each_value(instr(i), [&](std::uint32_t v, unsigned) {
      const bool same_rows = p_.values[v].rows == rows;
      const std::size_t def = info_[v].def;
      if (info_[v].alias >= 0) after(last_write[static_cast<std::size_t>(info_[v].alias)], same_rows);
      else after(group_of_[def], same_rows);
    });
    each_access(i, [&](std::size_t param, bool writes) {
      after(last_write[param], p_.params[param].rows == rows);
      if (writes) after(last_read[param], p_.params[param].rows == rows);
    });
    const std::size_t group = choose_group(earliest, segment, rows, whole);
    group_of_[i] = group;
    order_in_group_[i] = groups_[group].instrs.size();
    groups_[group].instrs.push_back(i);
    each_access(i, [&](std::size_t param, bool writes) {
      std::size_t& last = writes ? last_write[param] : last_read[param];
      if (last == nowhere || groups_[last].position < groups_[group].position) last = group;
    });
  }
  sequence_.assign(p_.instrs.size(), 0);
  std::size_t next = 0;
  for (const std::size_t g : positions_)
    for (const std::size_t i : groups_[g].instrs) sequence_[i] = next++;
}

std::size_t KernelPlanner::choose_group(std::size_t earliest, std::size_t segment, std::int32_t rows, bool whole) {
  if (!whole)
    for (std::size_t at = earliest; at < positions_.size(); ++at)
      if (!groups_[positions_[at]].whole && groups_[positions_[at]].rows == rows) return positions_[at];
  groups_.push_back({segment, rows, whole, {}, earliest});
  positions_.insert(positions_.begin() + static_cast<std::ptrdiff_t>(earliest), groups_.size() - 1);
  for (std::size_t at = earliest; at < positions_.size(); ++at) groups_[positions_[at]].position = at;
  return groups_.size() - 1;
}

std::size_t KernelPlanner::last_use(const ValueInfo& v) const {
  std::size_t last = sequence_[v.def];
  for (const std::size_t u : v.users) last = std::max(last, sequence_[u]);
  return last;
}

void KernelPlanner::alias_stores() {
  removed_.assign(p_.instrs.size(), false);
  for (std::size_t s = 0; s < p_.instrs.size(); ++s) {
    if (!is_store(s)) continue;
    const std::uint32_t param = instr(s).src[0].index;
    ValueInfo& v = info_[p_.root[instr(s).src[1].index]];
    if (v.alias >= 0 || is_load(v.def) || v.pinned) continue;
    const auto elsewhere = [&](std::size_t u) { return segment_of_[u] != segment_of_[s]; };
    if (elsewhere(v.def) || std::ranges::any_of(v.users, elsewhere)) continue;
    const DimRef rows = param_dim(param, false), cols = param_dim(param, true);
    const bool same_region = always_equal(v.rows, rows) && always_equal(v.cols, cols);
    if ((!same_region && (v.users.size() > 1 || !is_prefix_closed(instr(v.def).op))) || !unseen(s, param, v)) continue;
    v.alias = static_cast<std::int32_t>(param);
    v.rows = rows;
    v.cols = cols;
    removed_[s] = true;
  }
}

bool KernelPlanner::unseen(std::size_t s, std::uint32_t param, const ValueInfo& v) const {
  const std::size_t made = sequence_[v.def], stored = sequence_[s], last = last_use(v);
  bool ok = true;
  for (std::size_t x = 0; x < p_.instrs.size() && ok; ++x) {
    if (x == s || is_alias_load(x)) continue;
    const std::size_t at = sequence_[x];
    if (x == v.def) {  // in place only where an element depends on the same element alone
      each_value(instr(x), [&](std::uint32_t operand, unsigned index) {
        if (info_[operand].alias != static_cast<std::int32_t>(param)) return;
        const bool same_shape = p_.values[operand].rows == p_.params[param].rows && p_.values[operand].cols == p_.params[param].cols;
        ok = ok && same_shape && (is_elementwise(instr(x).op) || (instr(x).op == Op::matmul && index == 2));
      });
      continue;
    }
    each_access(x, [&](std::size_t touched, bool writes) {
      if (touched != param) return;
      if (at > made && at < stored) ok = false;
      if (writes && at > stored && at < last) ok = false;
    });
    // Values that already live in the parameter count like its loads.
    each_value(instr(x), [&](std::uint32_t operand, unsigned) {
      const ValueInfo& other = info_[operand];
      if (other.alias == static_cast<std::int32_t>(param) && !is_load(other.def) && at > made) ok = false;
    });
  }
  return ok;
}

void plan_kernel(KernelImpl& kernel) { KernelPlanner(kernel).run(); }

}  // namespace pto_wsp
