// Turns a verified kernel into steps. Three decisions, one after the other:
//
// groups   Instructions whose row r needs row r alone of what the same group makes are run together, strip by strip of rows, so
//          that a strip's values stay in the nearest cache. Column reductions and matmul take everything at once, and a row
//          repeated over many rows must be complete before: those come from earlier groups.
// aliases  A load is the argument's memory itself if no store to that parameter comes before its last use. A store is made by
//          the instruction that computes the value, if nobody can see the difference.
// places   Values used inside one group only hold one strip; others hold all rows. Space is shared by values that are not
//          alive at the same time.

#include <algorithm>
#include <limits>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

constexpr std::int64_t strip_bytes = 32 * 1024;
constexpr std::int64_t max_scratch = std::int64_t{1} << 34;
constexpr std::size_t none = std::numeric_limits<std::size_t>::max();

std::int64_t up64(std::int64_t x) { return (x + 63) / 64 * 64; }
std::int64_t esize(DType t) { return static_cast<std::int64_t>(size_of(t)); }

// Rows of up to a cache line lie side by side (so that thin tiles can be walked as one row); longer ones start on a line.
std::int64_t row_bytes(std::int32_t cols, DType t) {
  const std::int64_t bytes = cols * esize(t);
  return bytes < 64 ? bytes : up64(bytes);
}

// Space for things alive from `begin` to `end` (both included), first fit by beginning.
struct Lifetime {
  std::int64_t size;
  std::size_t begin, end;
  std::int64_t offset = 0;
};
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

class Planner {
 public:
  explicit Planner(KernelImpl& kernel) : k_(kernel), p_(kernel.program) {}

  void run() {
    join_equal_sizes();
    find_segments();
    find_uses();
    alias_loads();
    make_groups();
    alias_stores();
    place_values();
    emit();
  }

 private:
  struct ValueInfo {
    std::size_t def = none;
    std::vector<std::size_t> users;   // of it, or of what restricts it
    bool pinned = false;              // equations between segments use it
    std::int32_t alias = -1;          // the parameter whose memory it is
    DimRef rows, cols;                // where it is computed
    bool local = false;               // one strip at a time
    Lifetime life = {};
    std::int64_t stride = 0;
  };
  struct PlanGroup {
    std::size_t segment;
    std::int32_t rows;
    bool whole;
    std::vector<std::size_t> instrs;
    std::size_t position = 0;
  };

  const Instr& instr(std::size_t i) const { return p_.instrs[i]; }
  bool is_load(std::size_t i) const { return instr(i).op == Op::load; }
  bool is_store(std::size_t i) const { return instr(i).op == Op::store; }
  bool is_alias_load(std::size_t i) const { return is_load(i) && info_[static_cast<std::size_t>(instr(i).dst)].alias >= 0; }

  template <class Fn> void each_value(const Instr& in, Fn fn) const {
    for (unsigned s = 0; s < in.n_src; ++s)
      if (in.src[s].kind == Source::Kind::value) fn(p_.root[in.src[s].index], s);
  }

  // The innermost thing that runs as a whole: instructions of one segment may be put into another order.
  void find_segments() {
    segment_of_.assign(p_.instrs.size(), 0);
    for (std::size_t s = 0; s < p_.segments.size(); ++s)
      for (std::size_t i = 0; i < p_.segments[s].count; ++i) segment_of_[p_.segments[s].first + i] = s;
  }

  // A value used inside of a loop that it comes from outside of is used until the loop ends.
  template <class At> std::size_t until_loops_end(std::size_t def, std::size_t user, std::size_t last, At at) const {
    for (const auto& [from, to] : p_.extents)
      if (user >= from && user < to && (def < from || def >= to))
        for (std::size_t i = from; i < to; ++i) last = std::max(last, at(i));
    return last;
  }

  // Sizes of parameters that the checks make equal are told by one of them.
  void join_equal_sizes() {
    same_size_.resize(2 * p_.params.size());
    for (std::size_t i = 0; i < same_size_.size(); ++i) same_size_[i] = i;
    for (const Check& c : p_.checks)
      if (!c.at_least && of_tile(c.a) && of_tile(c.b)) same_size_[representative(c.a)] = representative(c.b);
  }
  static bool of_tile(const DimRef& d) { return d.kind == DimRef::Kind::tile; }
  std::size_t representative(const DimRef& d) const {
    std::size_t at = 2 * static_cast<std::size_t>(d.param) + d.dim;
    while (same_size_[at] != at) at = same_size_[at];
    return at;
  }
  bool always_equal(const DimRef& a, const DimRef& b) const {
    return a == b || (of_tile(a) && of_tile(b) && representative(a) == representative(b));
  }

  void find_uses() {
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

  // Memory that an equation between segments may read or write.
  bool is_shared(std::uint32_t param) const { return param < p_.n_args && p_.params[param].dir != Dir::in && p_.structured; }

  void alias_loads() {
    for (ValueInfo& v : info_) {
      if (v.def == none || !is_load(v.def) || instr(v.def).operand == DType::boolean) continue;
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

  bool is_carried(std::uint32_t param) const { return param >= p_.n_args && p_.params[param].dir != Dir::in; }
  // Whether a part of a parameter may be stored between two instructions: they stand in different segments.
  bool part_between(std::size_t first, std::size_t last) const {
    const bool any = std::ranges::any_of(p_.scalars, [](const ScalarEqn& e) { return e.kind == ScalarEqn::Kind::store_part; });
    return any && (last >= p_.instrs.size() || segment_of_[first] != segment_of_[last]);
  }

  // The parameter memory an instruction touches besides what its value operands are aliases of.
  std::int32_t direct_param(std::size_t i) const {
    return is_store(i) || (is_load(i) && !is_alias_load(i)) ? static_cast<std::int32_t>(instr(i).src[0].index) : -1;
  }
  template <class Fn> void each_access(std::size_t i, Fn fn) const {  // fn(param, writes)
    if (is_alias_load(i)) return;
    if (direct_param(i) >= 0) fn(static_cast<std::size_t>(direct_param(i)), is_store(i));
    each_value(instr(i), [&](std::uint32_t v, unsigned) {
      if (info_[v].alias >= 0 && is_load(info_[v].def)) fn(static_cast<std::size_t>(info_[v].alias), false);
    });
  }

  std::int32_t rows_of(std::size_t i) const {
    return is_store(i) ? p_.params[instr(i).src[0].index].rows : p_.values[static_cast<std::size_t>(instr(i).dst)].rows;
  }

  void make_groups() {
    std::vector<std::size_t> last_read(p_.params.size(), none), last_write(p_.params.size(), none);  // group ids
    group_of_.assign(p_.instrs.size(), none);
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
        if (group == none) return;
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
        if (last == none || groups_[last].position < groups_[group].position) last = group;
      });
    }
    sequence_.assign(p_.instrs.size(), 0);
    std::size_t next = 0;
    for (const std::size_t g : positions_)
      for (const std::size_t i : groups_[g].instrs) sequence_[i] = next++;
  }

  // The first group from `earliest` on that takes such instructions, else a new one there.
  std::size_t choose_group(std::size_t earliest, std::size_t segment, std::int32_t rows, bool whole) {
    if (!whole)
      for (std::size_t at = earliest; at < positions_.size(); ++at)
        if (!groups_[positions_[at]].whole && groups_[positions_[at]].rows == rows) return positions_[at];
    groups_.push_back({segment, rows, whole, {}, earliest});
    positions_.insert(positions_.begin() + static_cast<std::ptrdiff_t>(earliest), groups_.size() - 1);
    for (std::size_t at = earliest; at < positions_.size(); ++at) groups_[positions_[at]].position = at;
    return groups_.size() - 1;
  }

  std::size_t last_use(const ValueInfo& v) const {
    std::size_t last = sequence_[v.def];
    for (const std::size_t u : v.users) last = std::max(last, sequence_[u]);
    return last;
  }

  void alias_stores() {
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

  DimRef param_dim(std::uint32_t param, bool is_cols) const { return p_.valid[param][is_cols ? 1 : 0]; }

  // Whether the parameter may get the value where it is computed instead of at the store `s`.
  bool unseen(std::size_t s, std::uint32_t param, const ValueInfo& v) const {
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

  void place_values() {
    std::vector<Lifetime*> full;
    std::vector<std::vector<std::size_t>> local(groups_.size());
    for (std::size_t n = 0; n < info_.size(); ++n) {
      ValueInfo& v = info_[n];
      if (v.def == none || v.alias >= 0) continue;
      const Value& type = p_.values[n];
      v.stride = row_bytes(type.cols, type.dtype);
      const std::size_t home = group_of_[v.def];
      std::size_t last = groups_[home].position;
      v.local = !groups_[home].whole && !v.pinned;
      const auto position = [&](std::size_t i) { return group_of_[i] == none ? 0 : groups_[group_of_[i]].position; };
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

  // Bytes a row of a group takes in memory that is not the strip's own: parameters and values of other groups.
  std::int64_t outside_row_bytes(std::size_t g) const {
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

  std::int64_t reserve(std::int64_t bytes) {
    const std::int64_t at = scratch_;
    scratch_ += up64(bytes);
    if (scratch_ > max_scratch) throw PlanError("kernel " + p_.name + ": its values need more than 16 GiB");
    return at;
  }

  void emit() {
    scalar_slot_.assign(p_.params.size(), -1);
    for (std::uint32_t i = 0; i < p_.params.size(); ++i) {
      const Param& param = p_.params[i];
      if (param.is_scalar) {
        scalar_slot_[i] = reserve(esize(param.dtype));
        if (i < p_.n_args) k_.scalars.push_back({i, param.dtype, scalar_slot_[i]});
      }
    }
    for (std::size_t s = 0; s < p_.segments.size(); ++s) k_.program.segments[s].first_group = k_.program.segments[s].n_groups = 0;
    std::int64_t work = 0;
    for (const std::size_t g : positions_) {
      Group out = {static_cast<std::uint32_t>(k_.steps.size()), 0, groups_[g].rows, groups_[g].whole ? groups_[g].rows : strips_[g]};
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
    k_.work_offset = reserve(work);
    for (std::uint32_t i = 0; i < p_.params.size(); ++i) {
      const Param& param = p_.params[i];
      k_.memory.push_back(-1);
      if (param.is_scalar || param.is_region) continue;
      if (i >= p_.n_args) {
        k_.memory.back() = reserve(row_bytes(param.cols, param.dtype) * param.rows);
        continue;
      }
      Staging staging = {i, param.rows, param.cols, esize(param.dtype), 0, row_bytes(param.cols, param.dtype), false, false, 0};
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
    k_.regs_offset = reserve(8 * static_cast<std::int64_t>(p_.n_regs));
    k_.scalar_slots = scalar_slot_;
    for (std::uint32_t v = 0; v < p_.values.size(); ++v)
      k_.value_places.push_back(info_[p_.root[v]].pinned ? place_of_value(v) : Place{});
    k_.scratch_bytes = static_cast<std::size_t>(std::max<std::int64_t>(scratch_, 64));
  }

  Place place_of_param(std::uint32_t param) const { return {2 + param, 0, 0, -1, -1}; }

  Place place_of_value(std::uint32_t n) const {
    const ValueInfo& v = info_[p_.root[n]];
    if (v.alias >= 0) return place_of_param(static_cast<std::uint32_t>(v.alias));
    return {0, (v.local ? strip_base_ : full_base_) + v.life.offset, v.stride, -1, v.local ? 0 : -1};
  }

  Place place_of_source(const Source& s, DType t, std::int32_t rows) {
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

  // Whether an operand of one row is repeated over the result's rows, and one column over its columns.
  static std::pair<bool, bool> repeats(const Instr& in, unsigned s) {
    const bool down = in.imm == 0;  // an axis
    if (in.op == Op::gather) return s == 0 ? std::pair{!down, down} : std::pair{true, true};
    if (in.op == Op::scatter) return s == 1 ? std::pair{!down, down} : std::pair{false, false};
    const bool may = may_repeat(in.op);
    return {may, may};
  }

  Step step(std::size_t i) {
    const Instr& in = instr(i);
    Step st = {};
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

  KernelImpl& k_;
  const Program& p_;
  std::vector<std::size_t> segment_of_;      // of instructions
  std::vector<std::size_t> same_size_;       // of 2 * parameter + is_cols
  std::vector<ValueInfo> info_;
  std::vector<PlanGroup> groups_;
  std::vector<std::size_t> positions_;       // group ids in order
  std::vector<std::size_t> group_of_, order_in_group_, sequence_;
  std::vector<bool> removed_;
  std::vector<std::int32_t> strips_;
  std::vector<std::int64_t> scalar_slot_;
  std::int64_t scratch_ = 0, full_base_ = 0, strip_base_ = 0;
};

}  // namespace

void plan_kernel(KernelImpl& kernel) { Planner(kernel).run(); }

}  // namespace pto_wsp
