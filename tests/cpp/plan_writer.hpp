// Writes plans in the byte format, for tests that have no compiler at hand.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace writer {

using Bytes = std::vector<std::byte>;

struct Out {
  Bytes bytes;

  Out& u(std::uint64_t v) {
    while (v >= 0x80) {
      bytes.push_back(static_cast<std::byte>(v | 0x80));
      v >>= 7;
    }
    bytes.push_back(static_cast<std::byte>(v));
    return *this;
  }
  Out& s(std::int64_t v) { return u((static_cast<std::uint64_t>(v) << 1) ^ (v < 0 ? ~std::uint64_t{0} : 0)); }
  Out& d(double v) { return bits(std::bit_cast<std::uint64_t>(v)); }
  Out& bits(std::uint64_t v) {
    for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<std::byte>(v >> (8 * i)));
    return *this;
  }
  Out& str(const std::string& v) {
    u(v.size());
    for (const char c : v) bytes.push_back(static_cast<std::byte>(c));
    return *this;
  }
  Out& raw(const Bytes& b) {
    bytes.insert(bytes.end(), b.begin(), b.end());
    return *this;
  }
};

struct Affine {
  std::int64_t constant = 0;
  std::vector<std::pair<std::uint64_t, std::int64_t>> terms;  // register, coefficient

  Affine(std::int64_t c = 0) : constant(c) {}
  Affine(std::int64_t c, std::vector<std::pair<std::uint64_t, std::int64_t>> t) : constant(c), terms(std::move(t)) {}
};

/// coef * register + constant
inline Affine reg(std::uint64_t r, std::int64_t coef = 1, std::int64_t constant = 0) { return {constant, {{r, coef}}}; }

inline void put(Out& o, const Affine& a) {
  o.s(a.constant).u(a.terms.size());
  for (const auto& [r, c] : a.terms) o.u(r).s(c);
}

struct Dim {
  int kind;
  Affine start, limit;
  std::int64_t size = -1;  // of slices and tiles of reads and index views
  Bytes index{};           // of a gather
};
inline Dim at(Affine start) { return {0, std::move(start), {}}; }
inline Dim slice(Affine start, std::int64_t size = -1) { return {1, std::move(start), {}, size}; }
inline Dim tile(Affine start, Affine limit, std::int64_t size = -1) { return {2, std::move(start), std::move(limit), size}; }
inline Dim span(Affine start, Affine length) { return {4, std::move(start), std::move(length)}; }

inline void put(Out& o, const std::vector<Dim>& dims) {
  for (const Dim& d : dims) {
    o.u(static_cast<std::uint64_t>(d.kind));
    if (d.kind == 3) {
      o.raw(d.index);
      continue;
    }
    put(o, d.start);
    if (d.kind == 2 || d.kind == 4) put(o, d.limit);
    if (d.size >= 0) o.u(static_cast<std::uint64_t>(d.size));
  }
}

/// The elements that a view of an index tensor names; it keeps one dimension.
inline Dim gather(std::uint64_t tensor, const std::vector<Dim>& dims, bool wait = false) {
  Out o;
  o.u(tensor).u(wait ? 1 : 0);
  put(o, dims);
  return {3, {}, {}, -1, o.bytes};
}

inline Bytes view(std::uint64_t tensor, bool tracked, const std::vector<Dim>& dims) {
  Out o;
  o.u(tensor).u(tracked ? 1 : 0);
  put(o, dims);
  return o.bytes;
}
inline Bytes scalar(double v) { return Out().u(0).d(v).bytes; }
inline Bytes scalar(const Affine& a) {
  Out o;
  o.u(1);
  put(o, a);
  return o.bytes;
}

inline Bytes scalar(std::uint64_t r, std::uint64_t type) { return Out().u(2).u(r).u(type).bytes; }

struct Task {
  std::uint64_t kernel = 0, site = 0, dispatch = 0, window = 0;
  std::vector<Affine> coords;
  std::vector<Bytes> args;
  std::uint64_t handle = 0;  // + 1
  std::vector<std::uint64_t> after{};
  std::uint64_t batch = 0, steal = 0, stream = 0;            // scopes + 1
  Bytes lane{}, stream_key{}, priority{}, distance{}, pool{};  // rules; empty: none
};

/// A rule that is one index expression, with the memory that it would ask.
inline Bytes rule(const Affine& a, std::uint64_t memory = 0) {
  Out o;
  o.u(1).u(memory).u(5).u(2);
  put(o, a);
  return o.bytes;
}

/// A step of a rule: an operation by name, on operands of `type`; `to`: what a cast gives.
inline Bytes rule_step(const std::string& name, std::uint64_t type, const std::vector<Bytes>& operands, std::uint64_t to = 5) {
  Out o;
  o.str(name).u(type).u(to);
  for (const Bytes& b : operands) o.raw(b);
  return o.bytes;
}
/// The value of an earlier step, as an operand.
inline Bytes step(std::uint64_t i) { return Out().u(3).u(i).bytes; }
inline Bytes rule(const std::vector<Bytes>& steps, const Bytes& result, std::uint64_t type = 5, std::uint64_t memory = 0) {
  Out o;
  o.u(steps.size() + 1).u(memory);
  for (const Bytes& b : steps) o.raw(b);
  return o.u(type).raw(result).bytes;
}

inline Bytes task(const Task& t) {
  Out o;
  o.u(4).u(t.kernel).u(t.site).u(t.dispatch).u(t.window).u(t.coords.size());
  for (const Affine& c : t.coords) put(o, c);
  for (const Bytes& a : t.args) o.raw(a);
  o.u(t.handle).u(t.after.size());
  for (const std::uint64_t h : t.after) o.u(h);
  o.u(t.batch).u(t.steal).u(t.stream);
  for (const Bytes* rule : {&t.lane, &t.stream_key, &t.priority, &t.distance, &t.pool}) o.raw(rule->empty() ? Out().u(0).bytes : *rule);
  return o.bytes;
}
inline Bytes list(std::uint64_t kind, const std::vector<Bytes>& nodes) {
  Out o;
  o.u(kind).u(nodes.size());
  for (const Bytes& n : nodes) o.raw(n);
  return o.bytes;
}
inline Bytes block(const std::vector<Bytes>& nodes) { return list(0, nodes); }
inline Bytes seq(const std::vector<Bytes>& nodes) { return list(1, nodes); }
inline Bytes loop(std::uint64_t r, const Affine& extent, const Bytes& child, bool sequential = false, std::uint64_t origin = 0) {
  Out o;
  o.u(2).u(origin).u(sequential ? 1 : 0).u(r);
  put(o, extent);
  o.u(r).raw(child);
  return o.bytes;
}
/// While `go_on`, which `condition` computes.
inline Bytes while_loop(std::uint64_t r, const Affine& extent, const Bytes& condition, const Bytes& go_on, const Bytes& body,
                        std::uint64_t origin = 0) {
  Out o;
  o.u(2).u(origin).u(2).u(r);
  put(o, extent);
  o.u(r).raw(condition).raw(go_on).raw(body);
  return o.bytes;
}
inline Bytes eval(std::uint64_t r, std::uint64_t op, const Affine& a, const Affine& b, std::uint64_t origin = 0) {
  Out o;
  o.u(3).u(origin).u(r).u(op);
  put(o, a);
  put(o, b);
  return o.bytes;
}

constexpr std::uint64_t f32 = 0, f16 = 1, bf16 = 2, i32 = 3, boolean = 4, i64 = 5, u64 = 6, f64 = 7;

/// Operands of scalar operations.
inline Bytes of(std::uint64_t r) { return Out().u(0).u(r).bytes; }
inline Bytes constant(std::int64_t v) { return Out().u(1).bits(static_cast<std::uint64_t>(v)).bytes; }
inline Bytes constant(double v) { return Out().u(1).d(v).bytes; }
inline Bytes affine(const Affine& a) {
  Out o;
  o.u(2);
  put(o, a);
  return o.bytes;
}

inline Bytes compute(std::uint64_t r, std::uint64_t op, std::uint64_t type, const std::vector<Bytes>& operands, bool checked = false,
                     std::uint64_t to = 0, std::uint64_t origin = 0) {
  Out o;
  o.u(5).u(origin).u(r).u(op).u(type).u(checked ? 1 : 0).u(to).u(operands.size());
  for (const Bytes& b : operands) o.raw(b);
  return o.bytes;
}
inline Bytes read(std::uint64_t r, std::uint64_t kind, std::uint64_t tensor, const std::vector<Dim>& dims, bool wait = false,
                  std::uint64_t origin = 0) {
  Out o;
  o.u(6).u(origin).u(r).u(kind).u(tensor).u(wait ? 1 : 0);
  put(o, dims);
  return o.bytes;
}
inline Bytes item(std::uint64_t r, std::uint64_t tensor, const std::vector<Dim>& dims, bool wait = false, std::uint64_t origin = 0) {
  return read(r, 0, tensor, dims, wait, origin);
}
inline Bytes cond(const Bytes& operand, const Bytes& then, const Bytes& otherwise, std::uint64_t origin = 0) {
  return Out().u(7).u(origin).raw(operand).raw(then).raw(otherwise).bytes;
}
inline Bytes slot_get(std::uint64_t r, std::uint64_t slot) { return Out().u(8).u(0).u(r).u(slot).bytes; }
inline Bytes slot_set(std::uint64_t slot, const Bytes& operand) { return Out().u(9).u(0).u(slot).raw(operand).bytes; }
inline Bytes acquire(std::uint64_t tensor, bool zeroed = false) { return Out().u(10).u(tensor).u(zeroed ? 1 : 0).bytes; }
inline Bytes release(std::uint64_t tensor) { return Out().u(11).u(tensor).bytes; }
inline Bytes reset(std::uint64_t handle) { return Out().u(12).u(handle).bytes; }

struct Channel {
  std::int64_t capacity = 1;  // -1: any number
  std::vector<std::uint64_t> fields{};
  std::uint64_t latency = 0, response = 0, initial = 0;
};
struct Process {
  std::vector<std::uint64_t> produces;
  Bytes body;
};
inline Bytes pipeline(const std::vector<Channel>& channels, const std::vector<Process>& processes, std::uint64_t window = 0,
                      std::uint64_t batch = 0, std::uint64_t origin = 0) {
  Out o;
  o.u(13).u(origin).u(window).u(batch).u(channels.size());
  for (const Channel& c : channels) {
    o.u(static_cast<std::uint64_t>(c.capacity + 1)).u(c.latency).u(c.response).u(c.initial).u(c.fields.size());
    for (const std::uint64_t type : c.fields) o.u(type);
  }
  o.u(processes.size());
  for (const Process& p : processes) {
    o.u(p.produces.size());
    for (const std::uint64_t c : p.produces) o.u(c);
    o.raw(p.body);
  }
  return o.bytes;
}
inline Bytes port(std::uint64_t kind, std::uint64_t channel, const std::vector<Bytes>& operands = {}, const std::vector<std::uint64_t>& regs = {},
                  std::uint64_t origin = 0) {
  Out o;
  o.u(kind).u(origin).u(channel);
  for (const Bytes& b : operands) o.raw(b);
  for (const std::uint64_t r : regs) o.u(r);
  return o.bytes;
}
inline Bytes send(std::uint64_t channel, const std::vector<Bytes>& operands = {}, std::uint64_t origin = 0) {
  return port(14, channel, operands, {}, origin);
}
inline Bytes receive(std::uint64_t channel, const std::vector<std::uint64_t>& regs = {}, std::uint64_t origin = 0) {
  return port(15, channel, {}, regs, origin);
}
inline Bytes consume(std::uint64_t channel, const std::vector<std::uint64_t>& regs, const Bytes& body) {
  return Out().raw(port(16, channel, {}, regs)).raw(body).bytes;
}
inline Bytes closes(std::uint64_t channel) { return port(17, channel); }
inline Bytes try_send(std::uint64_t r, std::uint64_t channel, const std::vector<Bytes>& operands = {}) {
  return port(18, channel, operands, {r});
}
inline Bytes query(std::uint64_t r, std::uint64_t channel) { return port(19, channel, {}, {r}); }

/// y = x (binary op) x, one input tile, one output tile; costs `cost` cycles plus `per_row` for each valid row.
inline Bytes kernel(std::uint64_t opcode, std::uint64_t rows, std::uint64_t cols, std::int64_t cost, std::int64_t per_row = 0,
                    std::uint64_t dtype = f32) {
  Out o;
  o.str("k").u(0).u(2);
  for (std::uint64_t dir = 0; dir < 2; ++dir) o.u(0).u(dir).u(dtype).u(rows).u(cols);
  o.u(2);  // requirements: same valid rows and columns
  for (std::uint64_t which : {1, 2}) o.u(0).u(which).u(0).u(which).u(1);
  o.u(0).u(2);  // registers, values
  for (int i = 0; i < 2; ++i) o.u(dtype).u(rows).u(cols).u(1).u(0).u(2).u(0);
  o.u(1).u(0).u(3);
  o.u(1).u(1).u(1).u(2).u(0).u(0).u(0);                     // load param 0 -> value 0
  o.u(opcode).u(2).u(2).u(0).u(0).u(0).u(0).u(0).u(1);      // value 1 = value 0 op value 0
  o.u(2).u(0).u(2).u(2).u(1).u(0).u(1).u(0).u(2);           // store param 1, value 1
  o.u(5).u(0).s(cost).u(0).s(per_row).u(1).u(1).u(0).u(4).u(2);
  return o.bytes;
}

/// x = x + x over an InOut tile.
inline Bytes inout_kernel(std::uint64_t rows, std::uint64_t cols, std::int64_t cost, std::uint64_t dtype = f32) {
  Out o;
  o.str("acc").u(0).u(1).u(0).u(2).u(dtype).u(rows).u(cols).u(0).u(0).u(2);
  for (int i = 0; i < 2; ++i) o.u(dtype).u(rows).u(cols).u(1).u(0).u(2).u(0);
  o.u(1).u(0).u(3);
  o.u(1).u(1).u(1).u(2).u(0).u(0).u(0);
  o.u(30).u(2).u(2).u(0).u(0).u(0).u(0).u(0).u(1);
  o.u(2).u(0).u(2).u(2).u(0).u(0).u(1).u(0).u(2);
  o.u(1).u(0).s(cost);
  return o.bytes;
}

/// Flags of a dispatch scope.
constexpr std::uint64_t pinned = 1, cyclic = 2;

struct Tensor {
  std::vector<Affine> dims;
  std::uint64_t flags = 3, dtype = f32;
};

struct Plan {
  std::vector<std::string> symbols;
  std::uint64_t regs = 0;
  std::vector<Tensor> tensors;
  std::vector<Bytes> kernels;
  std::uint64_t lanes = 4, issue_cost = 0, handover = 0, read_cost = 0;
  std::vector<std::uint64_t> slots{};
  std::uint64_t deps = 0, handles = 0;
  std::vector<std::uint64_t> dispatches;
  std::vector<std::uint64_t> windows{65536};
  std::vector<std::uint64_t> pools{}, dispatch_flags{}, window_bytes{}, window_modes{}, batches{}, streams{};  // empty: as if nothing were said
  std::uint64_t start = 0, turns = 0, memories = 0;
  Bytes root;

  Bytes bytes() const {
    Out o;
    for (const char c : {'P', 'W', 'P', 'L', '\6', '\0', '\0', '\0'}) o.bytes.push_back(static_cast<std::byte>(c));
    o.u(symbols.size());
    for (const auto& s : symbols) o.str(s);
    o.u(regs).u(tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      o.str("t" + std::to_string(i)).u(tensors[i].dtype).u(tensors[i].flags).u(tensors[i].dims.size());
      for (const Affine& d : tensors[i].dims) put(o, d);
    }
    o.u(slots.size());
    for (const std::uint64_t type : slots) o.u(type);
    o.u(kernels.size());
    for (const Bytes& k : kernels) o.raw(k);
    o.u(lanes).u(issue_cost).u(handover).u(read_cost);
    o.u(pools.empty() ? 1 : pools.size());
    for (const std::uint64_t n : pools.empty() ? std::vector{lanes} : pools) o.u(n);
    o.u(dispatches.size());
    for (std::size_t i = 0; i < dispatches.size(); ++i) o.u(dispatches[i]).u(i < dispatch_flags.size() ? dispatch_flags[i] : cyclic);
    o.u(windows.size());
    for (std::size_t i = 0; i < windows.size(); ++i) {
      o.u(windows[i]).u(i < window_bytes.size() ? window_bytes[i] : 0);
      o.u(i < window_modes.size() ? window_modes[i] : 0);
    }
    o.u(batches.size());
    for (const std::uint64_t n : batches) o.u(n);
    o.u(streams.size());
    for (const std::uint64_t n : streams) o.u(n);
    o.u(start).u(turns).u(memories);
    o.u(deps).u(handles);
    o.raw(root);
    return o.bytes;
  }
};

}  // namespace writer
