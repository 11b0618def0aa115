#pragma once
// Turns a verified kernel into steps. Shared by kernel_plan.cpp and kernel_places.cpp only. Three decisions, one after the other:
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

inline constexpr std::size_t nowhere = std::numeric_limits<std::size_t>::max();

inline std::int64_t up64(std::int64_t x) { return (x + 63) / 64 * 64; }
inline std::int64_t element_bytes(DType t) { return static_cast<std::int64_t>(size_of(t)); }

// Rows of up to a cache line lie side by side (so that thin tiles can be walked as one row); longer ones start on a line.
inline std::int64_t row_bytes(std::int32_t cols, DType t) {
  const std::int64_t bytes = cols * element_bytes(t);
  return bytes < 64 ? bytes : up64(bytes);
}

// Space for what is alive from `begin` to `end` (both included).
struct Lifetime {
  std::int64_t size;
  std::size_t begin, end;
  std::int64_t offset = 0;
};

class KernelPlanner {
 public:
  explicit KernelPlanner(KernelImpl& kernel) : k_(kernel), p_(kernel.program) {}

  void run();

 private:
  struct ValueInfo {
    std::size_t def = nowhere;
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
  void find_segments();

  // A value used inside of a loop that it comes from outside of is used until the loop ends.
  template <class At> std::size_t until_loops_end(std::size_t def, std::size_t user, std::size_t last, At at) const {
    for (const auto& [from, to] : p_.extents)
      if (user >= from && user < to && (def < from || def >= to))
        for (std::size_t i = from; i < to; ++i) last = std::max(last, at(i));
    return last;
  }

  // Sizes of parameters that the checks make equal are told by one of them.
  void join_equal_sizes();
  static bool of_tile(const DimRef& d) { return d.kind == DimRef::Kind::tile; }
  std::size_t representative(const DimRef& d) const {
    std::size_t at = 2 * static_cast<std::size_t>(d.param) + d.dim;
    while (same_size_[at] != at) at = same_size_[at];
    return at;
  }
  bool always_equal(const DimRef& a, const DimRef& b) const {
    return a == b || (of_tile(a) && of_tile(b) && representative(a) == representative(b));
  }

  void find_uses();

  // Memory that an equation between segments may read or write.
  bool is_shared(std::uint32_t param) const { return param < p_.n_args && p_.params[param].dir != Dir::in && p_.structured; }

  void alias_loads();

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

  void make_groups();

  // The first group from `earliest` on that takes such instructions, else a new one there.
  std::size_t choose_group(std::size_t earliest, std::size_t segment, std::int32_t rows, bool whole);
  std::size_t last_use(const ValueInfo& v) const;
  void alias_stores();

  DimRef param_dim(std::uint32_t param, bool is_cols) const { return p_.valid[param][is_cols ? 1 : 0]; }

  // Whether the parameter may get the value where it is computed instead of at the store `s`.
  bool unseen(std::size_t s, std::uint32_t param, const ValueInfo& v) const;
  void place_values();

  // Bytes a row of a group takes in memory that is not the strip's own: parameters and values of other groups.
  std::int64_t outside_row_bytes(std::size_t g) const;
  std::int64_t reserve(std::int64_t bytes);
  // A product of one or two rows reads its other operand once, from memory: meanwhile the next one's is fetched.
  void read_ahead();
  void emit();

  Place place_of_param(std::uint32_t param) const { return {2 + param, 0, 0, -1, -1}; }

  Place place_of_value(std::uint32_t n) const;
  Place place_of_source(const Source& s, DType t, std::int32_t rows);

  // Whether an operand of one row is repeated over the result's rows, and one column over its columns.
  static std::pair<bool, bool> repeats(const Instr& in, unsigned s) {
    const bool down = in.imm == 0;  // an axis
    if (in.op == Op::gather) return s == 0 ? std::pair{!down, down} : std::pair{true, true};
    if (in.op == Op::scatter) return s == 1 ? std::pair{!down, down} : std::pair{false, false};
    const bool may = may_repeat(in.op);
    return {may, may};
  }

  Step step(std::size_t i);

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

}  // namespace pto_wsp
