// Places and steps: see kernel_planner.hpp.

#include "kernel_planner.hpp"

namespace pto_wsp {
namespace {

constexpr std::int64_t strip_bytes = 32 * 1024;
constexpr std::int64_t max_scratch = std::int64_t{1} << 34;

// First fit, by beginning; how much space it takes.
std::int64_t pack(std::vector<Lifetime*>& items) {
  std::stable_sort(items.begin(), items.end(), [](const Lifetime* a, const Lifetime* b) { return a->begin < b->begin; });
  std::vector<Lifetime*> alive;  // by offset
  std::int64_t total = 0;
  for (Lifetime* item : items) {
    std::erase_if(alive, [&](const Lifetime* other) { return other->end < item->begin; });
    std::int64_t at = 0;
    auto before = alive.begin();
    while (before != alive.end() && (*before)->offset - at < item->size) {
      at = std::max(at, (*before)->offset + (*before)->size);
      ++before;
    }
    item->offset = at;
    alive.insert(before, item);
    total = std::max(total, at + item->size);
  }
  return total;
}

}  // namespace

void KernelPlanner::place_values() {
  std::vector<Lifetime*> full;
  std::vector<std::vector<std::size_t>> local(groups_.size());
  for (std::size_t n = 0; n < info_.size(); ++n) {
    ValueInfo& v = info_[n];
    if (v.def == nowhere || v.alias >= 0) continue;
    const Value& type = p_.values[n];
    v.stride = row_bytes(type.cols, type.dtype);
    const std::size_t home = group_of_[v.def];
    std::size_t last = groups_[home].position;
    v.local = !groups_[home].whole && !v.pinned;
    const auto position = [&](std::size_t i) { return group_of_[i] == nowhere ? 0 : groups_[group_of_[i]].position; };
    for (const std::size_t u : v.users) {
      last = until_loops_end(v.def, u, std::max(last, position(u)), position);
      v.local = v.local && group_of_[u] == home;
    }
    if (v.pinned) last = positions_.size();
    if (v.local) {
      local[home].push_back(n);
    } else {
      v.life = {up64(v.stride * type.rows), groups_[home].position, last};
      full.push_back(&v.life);
    }
  }
  const std::int64_t full_bytes = pack(full);
  std::int64_t strip_area = 0;
  strips_.assign(groups_.size(), 1);
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    if (groups_[g].whole) continue;
    std::vector<Lifetime*> items;
    const auto lay_out = [&](auto bytes_of) {
      items.clear();
      for (const std::size_t n : local[g]) {
        info_[n].life = {bytes_of(info_[n].stride), order_in_group_[info_[n].def], order_in_group_[info_[n].def]};
        for (const std::size_t u : info_[n].users) info_[n].life.end = std::max(info_[n].life.end, order_in_group_[u]);
        items.push_back(&info_[n].life);
      }
      return pack(items);
    };
    const std::int64_t row = std::max<std::int64_t>(1, lay_out([](std::int64_t stride) { return stride; }) + outside_row_bytes(g));
    const std::int64_t strip = std::clamp<std::int64_t>(strip_bytes / row, 1, groups_[g].rows);
    strips_[g] = static_cast<std::int32_t>(strip);
    strip_area = std::max(strip_area, lay_out([&](std::int64_t stride) { return up64(stride * strip); }));
  }
  full_base_ = reserve(full_bytes);
  strip_base_ = reserve(strip_area);
}

std::int64_t KernelPlanner::outside_row_bytes(std::size_t g) const {
  std::int64_t bytes = 0;
  std::vector<bool> seen(p_.values.size(), false);
  const auto count = [&](std::size_t n) {
    if (seen[n] || info_[n].local || p_.values[n].rows != groups_[g].rows) return;
    seen[n] = true;
    bytes += row_bytes(p_.values[n].cols, p_.values[n].dtype);
  };
  for (const std::size_t i : groups_[g].instrs) {
    each_value(instr(i), [&](std::uint32_t v, unsigned) { count(v); });
    if (instr(i).dst >= 0) count(static_cast<std::size_t>(instr(i).dst));
  }
  return bytes;
}

std::int64_t KernelPlanner::reserve(std::int64_t bytes) {
  const std::int64_t at = scratch_;
  scratch_ += up64(bytes);
  if (scratch_ > max_scratch) throw PlanError("kernel " + p_.name + ": its values need more than 16 GiB");
  return at;
}

void KernelPlanner::read_ahead() {
  const auto other = [&](const Step& s) -> const Value& { return p_.values[instr(s.instr).src[1].index]; };
  for (const Segment& segment : k_.program.segments) {
    Step* last = nullptr;
    for (std::uint32_t g = 0; g < segment.n_groups; ++g) {
      const Group& group = k_.groups[segment.first_group + g];
      for (std::uint32_t s = 0; s < group.count; ++s) {
        Step& step = k_.steps[group.first + s];
        const Instr& in = instr(step.instr);
        if (in.op != Op::matmul || rows_of(step.instr) > 2 || step.src[1].base < 2) continue;
        if (last != nullptr) {
          const Value &x = other(*last), &y = other(step);
          if (x.rows == y.rows && x.cols == y.cols && x.dtype == y.dtype) last->ahead = static_cast<std::int32_t>(step.src[1].base);
        }
        last = &step;
      }
    }
  }
}

void KernelPlanner::emit() {
  scalar_slot_.assign(p_.params.size(), -1);
  for (std::uint32_t i = 0; i < p_.params.size(); ++i) {
    const Param& param = p_.params[i];
    if (param.is_scalar) {
      scalar_slot_[i] = reserve(element_bytes(param.dtype));
      if (i < p_.n_args) k_.scalars.push_back({i, param.dtype, scalar_slot_[i]});
    }
  }
  for (std::size_t s = 0; s < p_.segments.size(); ++s) k_.program.segments[s].first_group = k_.program.segments[s].n_groups = 0;
  std::int64_t work = 0;
  for (const std::size_t g : positions_) {
    Group out = {static_cast<std::uint32_t>(k_.steps.size()), 0, groups_[g].rows, groups_[g].whole ? groups_[g].rows : strips_[g],
                 groups_[g].whole};
    for (const std::size_t i : groups_[g].instrs) {
      if (removed_[i]) continue;
      k_.steps.push_back(step(i));
      if (instr(i).op == Op::matmul) {
        const std::int32_t k = instr(i).inner.value;
        work = std::max(work, static_cast<std::int64_t>(matmul_work_bytes(rows_of(i), p_.values[static_cast<std::size_t>(instr(i).dst)].cols, k)));
      } else if (instr(i).op == Op::extract_topk_indices) {
        work = std::max(work, static_cast<std::int64_t>(topk_work_bytes(instr(i).inner.value)));
      }
    }
    out.count = static_cast<std::uint32_t>(k_.steps.size()) - out.first;
    if (out.count == 0) continue;
    Segment& segment = k_.program.segments[groups_[g].segment];
    if (segment.n_groups++ == 0) segment.first_group = static_cast<std::uint32_t>(k_.groups.size());
    segment.one_strip = segment.one_strip && out.strip >= out.rows;
    k_.one_strip = k_.one_strip && out.strip >= out.rows;
    k_.groups.push_back(out);
  }
  read_ahead();
  k_.work_offset = reserve(work);
  for (std::uint32_t i = 0; i < p_.params.size(); ++i) {
    const Param& param = p_.params[i];
    k_.memory.push_back(-1);
    if (param.is_scalar || param.is_region) continue;
    if (i >= p_.n_args) {
      k_.memory.back() = reserve(row_bytes(param.cols, param.dtype) * param.rows);
      continue;
    }
    Staging staging = {i, param.rows, param.cols, element_bytes(param.dtype), 0, row_bytes(param.cols, param.dtype), false, false, 0};
    if (p_.cpp >= 0) {
      staging.read = param.dir != Dir::out;
      staging.written = param.dir != Dir::in;
      staging.misaligned = staging.element_bytes - 1;
    }
    for (const Instr& in : p_.instrs) {
      if ((in.op != Op::load && in.op != Op::store) || in.src[0].index != i) continue;
      (in.op == Op::load ? staging.read : staging.written) = true;
    }
    for (const ScalarEqn& e : p_.scalars) {
      using Kind = ScalarEqn::Kind;
      if (e.param != i) continue;
      staging.read = staging.read || e.kind == Kind::part || e.kind == Kind::store_part || (e.kind == Kind::element && e.value < 0);
      staging.written = staging.written || e.kind == Kind::store_part;
    }
    staging.offset = reserve(staging.stride * param.rows);
    k_.staging.push_back(staging);
  }
  for (const ValueInfo& v : info_) k_.kept.push_back(!v.local || v.alias >= 0);
  for (std::size_t i = 0; i < same_size_.size(); ++i) {
    std::size_t at = i;
    while (same_size_[at] != at) at = same_size_[at];
    k_.same_size.push_back(at);
  }
  k_.regs_offset = reserve(8 * static_cast<std::int64_t>(p_.n_regs));
  k_.scalar_slots = scalar_slot_;
  for (std::uint32_t v = 0; v < p_.values.size(); ++v)
    k_.value_places.push_back(info_[p_.root[v]].pinned ? place_of_value(v) : Place{});
  k_.scratch_bytes = static_cast<std::size_t>(std::max<std::int64_t>(scratch_, 64));
}

Place KernelPlanner::place_of_value(std::uint32_t n) const {
  const ValueInfo& v = info_[p_.root[n]];
  if (v.alias >= 0) return place_of_param(static_cast<std::uint32_t>(v.alias));
  return {0, (v.local ? strip_base_ : full_base_) + v.life.offset, v.stride, -1, v.local ? 0 : -1};
}

Place KernelPlanner::place_of_source(const Source& s, DType t, std::int32_t rows) {
  Place place = {};
  if (s.kind == Source::Kind::value) {
    place = place_of_value(s.index);
    if (p_.values[s.index].rows == 1 && rows > 1) place.stride_mask = place.advance_mask = 0;
    return place;
  }
  place.stride_mask = place.advance_mask = 0;
  if (s.kind == Source::Kind::param) {
    place.offset = scalar_slot_[s.index];
    return place;
  }
  place.base = 1;
  place.offset = static_cast<std::int64_t>(k_.constants.size());
  k_.constants.resize(k_.constants.size() + 8);
  store_scalar(s.literal, t, k_.constants.data() + place.offset);
  return place;
}

Step KernelPlanner::step(std::size_t i) {
  const Instr& in = instr(i);
  Step st = {};
  st.instr = static_cast<std::uint32_t>(i);
  st.imm = in.imm;
  st.at = in.at;
  st.origin = in.origin;
  st.inner = in.inner;
  st.outer = in.outer;
  DType result = DType::f32;
  if (in.op == Op::store) {
    const std::uint32_t param = in.src[0].index;
    st.dst = place_of_param(param);
    st.n_src = 1;
    st.src[0] = place_of_value(in.src[1].index);
    st.rows = param_dim(param, false);
    st.cols = param_dim(param, true);
    result = in.operand;
  } else {
    const auto n = static_cast<std::uint32_t>(in.dst);
    const Value& r = p_.values[n];
    result = r.dtype;
    st.dst = place_of_value(n);
    st.rows = info_[n].rows;
    st.cols = info_[n].cols;
    st.n_src = in.n_src;
    if (in.op == Op::load) {
      st.src[0] = place_of_param(in.src[0].index);
    } else {
      for (unsigned s = 0; s < in.n_src; ++s) {
        const DType t = in.op == Op::where && s == 0 ? DType::boolean : in.operand;
        const auto [rows, cols] = repeats(in, s);
        st.src[s] = place_of_source(in.src[s], t, rows ? r.rows : 1);
        const bool one_column = in.src[s].kind != Source::Kind::value || p_.values[in.src[s].index].cols == 1;
        if (one_column && r.cols > 1 && cols) st.bcast = static_cast<std::uint8_t>(st.bcast | (1u << s));
      }
    }
  }
  for (int isa = 0; isa < isa_count; ++isa) st.fn[static_cast<std::size_t>(isa)] = find_op(static_cast<Isa>(isa), in.op, in.operand, result);
  return st;
}

}  // namespace pto_wsp
