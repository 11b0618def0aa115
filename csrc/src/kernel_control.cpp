// Runs a kernel with loops, branches and scalars: segments of tile operations as planned, equations over registers between them.

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

#include "kernel_steps.hpp"

namespace pto_wsp {
namespace {

// What index arithmetic is mostly made of, without the way through all types; false: not computed.
inline bool quick(const ScalarEqn& e, std::int64_t* regs) noexcept {
  if (e.type != DType::i64) return false;
  const auto x = static_cast<std::int64_t>(value_of(e.operands[0], regs)), y = static_cast<std::int64_t>(value_of(e.operands[1], regs));
  std::int64_t& r = regs[e.reg];
  switch (e.op) {
    case ScalarOp::add: return !__builtin_add_overflow(x, y, &r) || !e.checked;
    case ScalarOp::sub: return !__builtin_sub_overflow(x, y, &r) || !e.checked;
    case ScalarOp::mul: return !__builtin_mul_overflow(x, y, &r) || !e.checked;
    case ScalarOp::min: r = std::min(x, y); return true;
    case ScalarOp::max: r = std::max(x, y); return true;
    case ScalarOp::lt: r = x < y; return true;
    case ScalarOp::ge: r = x >= y; return true;
    default: return false;
  }
}

// A number of 64 bits as an element of the dtype e.to: integers wrap, floats round once.
void put(std::uint64_t bits, const ScalarEqn& e, std::byte* p) noexcept {
  if (e.type == DType::f64) to_scalar(bits, DType::f64, e.to, bits);
  store_scalar(bits, e.to, p);
}

class Control {
 public:
  explicit Control(const Machine& m) : m_(m), p_(m.k.program), regs_(reinterpret_cast<std::int64_t*>(m.scratch + m.k.regs_offset)) {
    for (std::size_t i = p_.n_args; i < p_.params.size(); ++i) {
      const Param& p = p_.params[i];
      if (p.is_scalar) continue;
      m_.bases[2 + i] = {m_.scratch + m_.k.memory[i], stride_of(p)};
    }
  }

  // False: a fault, after which nothing more is done.
  bool run(const Block& block) {
    for (const Block::Item& item : block.items) {
      switch (item.kind) {
        case Block::Item::Kind::segment: segment(p_.segments[item.index]); break;
        case Block::Item::Kind::scalar:
          if (!equation(p_.scalars[item.index])) return false;
          break;
        case Block::Item::Kind::loop:
          if (!loop(p_.loops[item.index])) return false;
          break;
        case Block::Item::Kind::branch:
          if (!branch(p_.branches[item.index])) return false;
          break;
      }
    }
    return true;
  }

 private:
  static std::int64_t stride_of(const Param& p) {
    const std::int64_t bytes = p.cols * static_cast<std::int64_t>(size_of(p.dtype));
    return bytes < 64 ? bytes : (bytes + 63) / 64 * 64;
  }

  void segment(const Segment& s) const {
    if (s.n_groups == 0) return;
    const std::span<const Group> groups(m_.k.groups.data() + s.first_group, s.n_groups);
    if (const Native* native = m_.k.native.load(std::memory_order_acquire)) Run<false, true>{m_, regs_}.linked(*native, groups);
    else if (s.one_strip) Run<false, false>{m_, regs_}.groups(groups);
    else Run<false, true>{m_, regs_}.groups(groups);
  }

  bool fault(const ScalarEqn& e, FaultKind kind, std::int64_t a, std::int64_t b) const {
    if (m_.fault->origin < 0) *m_.fault = {e.origin, kind, a, b};
    return false;
  }

  bool loop(const Loop& l) {
    const auto lo = static_cast<std::int64_t>(value_of(l.lo, regs_)), hi = static_cast<std::int64_t>(value_of(l.hi, regs_));
    const bool any = lo < hi;
    const std::uint64_t trips = any ? static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo) : 0;
    if (trips > most_trips) {
      if (m_.fault->origin < 0) *m_.fault = {l.origin, FaultKind::trips, static_cast<std::int64_t>(std::min<std::uint64_t>(trips, INT64_MAX)), static_cast<std::int64_t>(most_trips)};
      return false;
    }
    std::array<std::uint64_t, 16> few;
    std::vector<std::uint64_t> many;
    std::uint64_t* next = few.data();
    if (l.carries.size() > few.size()) {
      many.resize(l.carries.size());
      next = many.data();
    }
    for (std::size_t i = 0; i < l.carries.size(); ++i) next[i] = value_of(l.carries[i].init, regs_);
    for (std::int64_t i = lo; i < hi; ++i) {
      if (m_.stop != nullptr && m_.stop->load(std::memory_order_relaxed)) [[unlikely]] {
        *m_.fault = {l.origin, FaultKind::stopped, 0, 0};
        return false;
      }
      regs_[l.index] = i;
      for (std::size_t c = 0; c < l.carries.size(); ++c) regs_[l.carries[c].reg] = static_cast<std::int64_t>(next[c]);
      if (!run(p_.blocks[l.body])) return false;
      for (std::size_t c = 0; c < l.carries.size(); ++c) next[c] = value_of(l.carries[c].yield, regs_);
    }
    for (std::size_t c = 0; c < l.carries.size(); ++c) regs_[l.carries[c].out] = static_cast<std::int64_t>(next[c]);
    return true;
  }

  bool branch(const Branch& b) {
    const std::size_t side = value_of(b.condition, regs_) != 0 ? 0 : 1;
    if (!run(p_.blocks[b.blocks[side]])) return false;
    for (const std::array<Carry, 2>& out : b.outs) regs_[out[side].out] = static_cast<std::int64_t>(value_of(out[side].yield, regs_));
    return true;
  }

  bool equation(const ScalarEqn& e) {
    using Kind = ScalarEqn::Kind;
    switch (e.kind) {
      case Kind::narrow: narrow(e); return true;
      case Kind::element: return element(e);
      case Kind::part: return part(e);
      case Kind::store_part: return store_part(e);
      case Kind::print: print(e); return true;
      default: {
        Fault f;
        if (step_registers(e, m_.args, regs_, f)) [[likely]] return true;
        return e.kind == Kind::extent ? no_extent(e, f) : fault(e, f.kind, f.a, f.b);
      }
    }
  }

  // An extent that is not there. What is left of a dimension behind a part's index is less than 1 where that lies outside: then the
  // index is what users know. Wir that was written by hand may give a part any extent; none of its indices matches that.
  bool no_extent(const ScalarEqn& e, const Fault& f) const {
    for (const ScalarEqn& s : p_.scalars) {
      if (s.kind != ScalarEqn::Kind::part || s.origin != e.origin) continue;
      const Param& p = p_.params[s.param];
      for (std::uint32_t d = 0; d < (p.is_region ? p.rank : 2); ++d) {
        const Arg& arg = m_.args[s.param];
        const std::int32_t length = p.is_region ? arg.region.length[d] : d == 0 ? arg.tile.rows : arg.tile.cols;
        std::int64_t from = 0;
        if (!__builtin_sub_overflow(std::int64_t{length}, f.a, &from) && from == index(s, d)) return fault(e, FaultKind::part, from, length);
      }
    }
    return fault(e, f.kind, f.a, f.b);
  }

  void narrow(const ScalarEqn& e) const { put(static_cast<std::uint64_t>(regs_[e.reg]), e, m_.scratch + m_.k.scalar_slots[e.param]); }

  struct Memory {
    std::byte* data;
    std::int64_t down, right;
  };

  // Where the part of a parameter that begins at the equation's indices lies, of `rows` x `cols` elements; false: not inside.
  bool memory(const ScalarEqn& e, std::int32_t rows, std::int32_t cols, Memory& out) const {
    const Param& p = p_.params[e.param];
    const auto size = static_cast<std::int64_t>(size_of(p.dtype));
    if (!p.is_region) {
      const TileArg& t = m_.args[e.param].tile;
      const std::int64_t r = index(e, 0), c = index(e, 1);
      if (!inside(e, r, rows, t.rows) || !inside(e, c, cols, t.cols)) return false;
      const Base& base = m_.bases[2 + e.param];
      out = {base.data + r * base.stride + c * size, base.stride, size};
      return true;
    }
    const RegionArg& region = m_.args[e.param].region;
    out = {region.data, 0, region.strides[p.rank - 1]};
    if (p.rank > 1) out.down = region.strides[p.rank - 2];
    for (std::uint32_t d = 0; d < p.rank; ++d) {
      const std::int64_t i = index(e, d);
      const std::int32_t n = d + 1 == p.rank ? cols : d + 2 == p.rank ? rows : 1;
      if (!inside(e, i, n, region.length[d])) return false;
      out.data += i * region.strides[d];
    }
    return true;
  }

  std::int64_t index(const ScalarEqn& e, std::uint32_t d) const { return static_cast<std::int64_t>(value_of(e.operands[d], regs_)); }

  bool inside(const ScalarEqn& e, std::int64_t i, std::int32_t n, std::int32_t length) const {
    if (i >= 0 && i <= std::int64_t{length} - n) [[likely]] return true;
    return fault(e, FaultKind::part, i, length);
  }

  bool element(const ScalarEqn& e) const {
    const std::byte* p = nullptr;
    if (e.value >= 0) {
      const std::int64_t r = index(e, 0), c = index(e, 1);
      if (!inside(e, r, 1, resolve(e.a, m_.args, regs_)) || !inside(e, c, 1, resolve(e.b, m_.args, regs_))) return false;
      const Memory v = value(e.value);
      p = v.data + r * v.down + c * v.right;
    } else {
      Memory at{};
      if (!memory(e, 1, 1, at)) return false;
      p = at.data;
    }
    regs_[e.reg] = static_cast<std::int64_t>(load_scalar(p, e.to));
    return true;
  }

  // A tile value that lies in memory as a whole.
  Memory value(std::int32_t v) const {
    const Place& place = m_.k.value_places[static_cast<std::size_t>(v)];
    const Base& b = m_.bases[place.base];
    const auto size = static_cast<std::int64_t>(size_of(p_.values[static_cast<std::size_t>(v)].dtype));
    return {b.data + place.offset, (place.stride + b.stride) & place.stride_mask, size};
  }

  bool part(const ScalarEqn& e) const {
    const std::int32_t rows = resolve(e.a, m_.args, regs_), cols = resolve(e.b, m_.args, regs_);
    Memory from{};
    if (!memory(e, rows, cols, from)) return false;
    const auto size = static_cast<std::int64_t>(size_of(e.to));
    Base& base = m_.bases[2 + e.target];
    if (!e.copied && (from.right == size || cols == 1)) [[likely]] {
      base = {from.data, from.down};
      return true;
    }
    base = {m_.scratch + m_.k.memory[e.target], stride_of(p_.params[e.target])};
    copy_strided(size, base.data, base.stride, size, from.data, from.down, from.right, rows, cols);
    return true;
  }

  bool store_part(const ScalarEqn& e) const {
    const std::int32_t rows = resolve(e.a, m_.args, regs_), cols = resolve(e.b, m_.args, regs_);
    Memory to{};
    if (!memory(e, rows, cols, to)) return false;
    const Memory from = value(e.value);
    copy_strided(static_cast<std::int64_t>(size_of(e.to)), to.data, to.down, to.right, from.data, from.down, from.right, rows, cols);
    return true;
  }

  // As pto_wsp/ops/printed.py, whatever the locale is.
  static void show(std::string& text, std::uint64_t bits, DType t) {
    char number[40];
    std::to_chars_result end{number, {}};
    switch (scalar_of(t)) {
      case DType::boolean: text += bits != 0 ? "true" : "false"; return;
      case DType::u64: end = std::to_chars(number, std::end(number), bits); break;
      case DType::i64: end = std::to_chars(number, std::end(number), static_cast<std::int64_t>(bits)); break;
      default: {
        const auto x = std::bit_cast<double>(bits);
        if (std::isnan(x)) {
          text += "nan";
          return;
        }
        end = std::to_chars(number, std::end(number), x, std::chars_format::general, t == DType::f64 ? 17 : 9);
      }
    }
    text.append(number, end.ptr);
  }

  // One write, so that lines of tasks that run at the same time do not mix.
  void print(const ScalarEqn& e) const {
    std::string text = e.label + " (kernel " + p_.name + "): " + name_of(e.to);
    if (e.value >= 0) {
      const std::int32_t rows = resolve(e.a, m_.args, regs_), cols = resolve(e.b, m_.args, regs_);
      text += "<" + std::to_string(rows) + "x" + std::to_string(cols) + ">\n";
      const Memory v = value(e.value);
      constexpr std::int32_t most = 8;  // rows and columns that are shown at each end
      for (std::int32_t r = 0; r < rows; ++r) {
        if (rows > 2 * most && r == most) {
          text += "  ...\n";
          r = rows - most;
        }
        text += " ";
        for (std::int32_t c = 0; c < cols; ++c) {
          if (cols > 2 * most && c == most) {
            text += " ...";
            c = cols - most;
          }
          text += " ";
          show(text, load_scalar(v.data + r * v.down + c * v.right, e.to), e.to);
        }
        text += "\n";
      }
    } else {
      text += " ";
      if (!e.copied) show(text, static_cast<std::uint64_t>(regs_[e.reg]), e.to);
      else show(text, load_scalar(m_.scratch + m_.k.scalar_slots[e.param], e.to), e.to);
      text += "\n";
    }
    std::fwrite(text.data(), 1, text.size(), stderr);
  }

  const Machine& m_;
  const Program& p_;
  std::int64_t* const regs_;
};

}  // namespace

bool step_registers(const ScalarEqn& e, std::span<const Arg> args, std::int64_t* regs, Fault& fault) noexcept {
  using Kind = ScalarEqn::Kind;
  switch (e.kind) {
    case Kind::compute: {
      if (quick(e, regs)) [[likely]] return true;
      std::uint64_t x[3] = {}, v = 0;
      for (std::uint32_t i = 0; i < arity(e.op); ++i) x[i] = value_of(e.operands[i], regs);
      const ScalarStatus status = pto_wsp::compute(e.op, e.type, e.to, e.checked, x, v);
      if (status == ScalarStatus::ok) [[likely]] {
        regs[e.reg] = static_cast<std::int64_t>(v);
        return true;
      }
      fault = {e.origin, FaultKind::scalar, static_cast<std::int64_t>(status), static_cast<std::int64_t>(status == ScalarStatus::shift ? x[1] : x[0])};
      return false;
    }
    case Kind::dim: regs[e.reg] = resolve(e.a, args, regs); return true;
    case Kind::widen: regs[e.reg] = static_cast<std::int64_t>(args[e.param].scalar); return true;
    case Kind::round: {
      std::byte element[8];
      put(value_of(e.operands[0], regs), e, element);
      regs[e.reg] = static_cast<std::int64_t>(load_scalar(element, e.to));
      return true;
    }
    case Kind::extent:
      if (regs[e.reg] >= 1 && regs[e.reg] <= e.most) [[likely]] return true;
      fault = {e.origin, FaultKind::shape, regs[e.reg], e.most};
      return false;
    case Kind::check: {
      const std::int32_t a = resolve(e.a, args, regs), b = resolve(e.b, args, regs);
      if (e.at_least ? a >= b : a == b) [[likely]] return true;
      fault = {e.origin, FaultKind::shape, a, b};
      return false;
    }
    default: return true;
  }
}

void run_structured(const Machine& m) noexcept {
  Control control(m);
  control.run(m.k.program.blocks[m.k.program.body]);
}

}  // namespace pto_wsp
