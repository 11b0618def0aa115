// Loops and branches.

#include "kernel_decoder.hpp"

namespace pto_wsp {

std::uint32_t KernelDecoder::memory_for(std::uint32_t value) {
  const Value& v = p_.values[value];
  return add_param({false, false, Dir::inout, v.dtype, v.rows, v.cols, 0, {}}, {v.valid_rows, v.valid_cols});
}

void KernelDecoder::put(std::uint32_t param, std::uint32_t value, std::int32_t at) {
  const Param& p = p_.params[param];
  const Value& v = p_.values[value];
  require(v.dtype == p.dtype && v.rows == p.rows && v.cols == p.cols && known_.cover(v.valid_rows, p_.valid[param][0]) &&
              known_.cover(v.valid_cols, p_.valid[param][1]),
          "a carried value does not fit");
  const Instr i = memory_instr(Op::store, param, value, at);
  if (!lies_in(param, value)) add_instr(i);
}

void KernelDecoder::take(std::uint32_t param, std::uint32_t value, std::int32_t at) {
  const Param& p = p_.params[param];
  assign(value);
  const Value& v = p_.values[value];
  require(v.dtype == p.dtype && v.rows == p.rows && v.cols == p.cols && v.valid_rows == p_.valid[param][0] && v.valid_cols == p_.valid[param][1],
          "a carried value does not fit");
  add_instr(memory_instr(Op::load, param, value, at));
}

void KernelDecoder::loop() {
  Loop l;
  l.origin = origin();
  l.lo = scalar(DType::i64);
  l.hi = scalar(DType::i64);
  const std::size_t n = in_.count("the number of carried values", 2);
  std::vector<Carried> tiles;
  std::vector<int> order;  // of each carried value: a tile's number, or -1
  for (std::size_t i = 0; i < n; ++i) {
    if (in_.u(1, "a carried value's kind") == 0) {
      const std::uint32_t init = value_index(), carry = any_value();
      tiles.push_back({memory_for(carry), carry});
      put(tiles.back().param, init, l.origin);
      l.flows.push_back({init, carry, no_value, no_value});
      order.push_back(static_cast<int>(tiles.size()) - 1);
    } else {
      Carry c;
      const std::uint64_t reg = in_.u();
      require(reg < types_.size() && regs_[reg] == State::unset, "a register gets a value twice");
      c.reg = static_cast<std::uint32_t>(reg);
      c.init = scalar(types_[reg]);
      l.carries.push_back(c);
      l.flows.push_back({number_of(c.init), number_of(c.reg), no_value, no_value});
      order.push_back(-1);
    }
  }
  const std::uint64_t index = in_.u();
  require(index < types_.size() && regs_[index] == State::unset && types_[index] == DType::i64, "a loop's index is an i64 of its own");
  l.index = static_cast<std::uint32_t>(index);
  const std::size_t from = p_.instrs.size();
  l.body = block(
      [&] {
        set(l.index);
        for (const Carry& c : l.carries) {
          require(regs_[c.reg] == State::unset, "a register gets a value twice");
          set(c.reg);
        }
        for (const Carried& t : tiles) {
          take(t.param, t.value, l.origin);
          carried_.emplace(t.param, t.value);
        }
      },
      [&] {
        std::size_t scalar_number = 0;
        for (std::size_t i = 0; i < order.size(); ++i) {
          if (order[i] >= 0) {
            const Carried& t = tiles[static_cast<std::size_t>(order[i])];
            const std::uint32_t value = value_index();
            l.flows[i].yield = value;
            put(t.param, value, l.origin);
          } else {
            Carry& c = l.carries[scalar_number++];
            c.yield = scalar(types_[c.reg]);
            l.flows[i].yield = number_of(c.yield);
          }
        }
      });
  p_.extents.push_back({from, p_.instrs.size()});
  add_item(Block::Item::Kind::loop, p_.loops.size());
  std::size_t scalar_number = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (order[i] >= 0) {
      l.flows[i].out = any_value();
      take(tiles[static_cast<std::size_t>(order[i])].param, l.flows[i].out, l.origin);
    } else {
      Carry& c = l.carries[scalar_number++];
      c.out = new_register(types_[c.reg]);
      l.flows[i].out = number_of(c.out);
    }
  }
  if (!p_.pipes) l.flows.clear();
  p_.loops.push_back(std::move(l));
}

void KernelDecoder::branch() {
  Branch b;
  const std::int32_t at = origin();
  b.condition = scalar(DType::boolean);
  b.data = in_.u(1, "a flag") == 1;
  const std::size_t n = in_.count("the number of results", 2);
  std::vector<Carried> tiles;
  std::vector<int> order;
  std::vector<std::uint32_t> regs;
  for (std::size_t i = 0; i < n; ++i) {
    if (in_.u(1, "a result's kind") == 0) {
      const std::uint32_t out = any_value();
      tiles.push_back({memory_for(out), out});
      order.push_back(static_cast<int>(tiles.size()) - 1);
    } else {
      const std::uint64_t reg = in_.u();
      require(reg < types_.size() && regs_[reg] == State::unset, "a register gets a value twice");
      regs.push_back(static_cast<std::uint32_t>(reg));
      order.push_back(-1);
    }
  }
  b.outs.resize(regs.size());
  b.flows.resize(n);
  for (std::size_t side = 0; side < 2; ++side)
    b.blocks[side] = block([] {},
                           [&] {
                             std::size_t k = 0;
                             for (std::size_t i = 0; i < order.size(); ++i) {
                               if (order[i] >= 0) {
                                 const Carried& t = tiles[static_cast<std::size_t>(order[i])];
                                 const std::uint32_t value = value_index();
                                 put(t.param, value, at);
                                 b.flows[i][side] = value;
                                 b.flows[i][2] = t.value;
                               } else {
                                 b.outs[k][side].out = regs[k];
                                 b.outs[k][side].yield = scalar(types_[regs[k]]);
                                 b.flows[i][side] = number_of(b.outs[k][side].yield);
                                 b.flows[i][2] = number_of(regs[k]);
                                 ++k;
                               }
                             }
                           });
  add_item(Block::Item::Kind::branch, p_.branches.size());
  for (const std::uint32_t reg : regs) {
    require(regs_[reg] == State::unset, "a register gets a value twice");
    set(reg);
  }
  for (const Carried& t : tiles) take(t.param, t.value, at);
  if (!p_.pipes) b.flows.clear();
  p_.branches.push_back(std::move(b));
}

}  // namespace pto_wsp
