#pragma once
// Reads a kernel from the plan and verifies it. What passes here can run with any arguments of the declared types: every type
// and shape fits its operation (kernel_verify.cpp), every value is assigned once and before use, and every operand is defined
// wherever the result is. Shared by the files kernel_decode*.cpp only.

#include <map>
#include <utility>

#include "kernel_impl.hpp"
#include "kernel_verify.hpp"

namespace pto_wsp {

inline constexpr std::uint64_t most_params = max_bases - 2;
inline constexpr std::uint64_t most_registers = 4096;
inline constexpr std::uint32_t most_depth = 32;
inline constexpr std::uint64_t most_checks = 256;
inline constexpr std::uint64_t most_values = 4096;
inline constexpr std::uint64_t most_instrs = 8192;
inline constexpr std::int64_t most_elements = (std::int64_t{1} << 31) / 8;

class KernelDecoder {
 public:
  explicit KernelDecoder(Cursor& in) : in_(in) {}

  Program run();

 private:
  enum class State : std::uint8_t { unset, visible, gone };

  DType dtype() { return static_cast<DType>(in_.u(dtype_count - 1, "a dtype of tiles")); }
  DType scalar_type();
  std::pair<std::int32_t, std::int32_t> shape();
  void params();
  void region(Param& param);
  std::uint32_t add_param(const Param& param, std::array<DimRef, 2> valid = {});

  DimRef tile_dim(std::uint32_t param, bool is_cols) const {
    const std::int32_t n = is_cols ? p_.params[param].cols : p_.params[param].rows;
    return n == 1 ? DimRef::of(1) : DimRef::tile(param, n, is_cols);
  }

  DimRef dimref();
  void checks();
  void registers();

  // A register that has a value here.
  std::uint32_t register_of(DType type);
  std::uint32_t new_register(DType type);
  void set(std::uint32_t reg) {
    regs_[reg] = State::visible;
    block_regs_.push_back(reg);
  }

  Scalar scalar(DType type);
  void values();

  // An extent of a value of this static size. Those in registers and regions are bounded where the value is made.
  static DimRef sized(DimRef d, std::int32_t size) {
    if (d.kind == DimRef::Kind::reg || d.kind == DimRef::Kind::region) d.value = size;
    require(d.value == size, "a value's valid shape is not of its size");
    return d;
  }

  void assign(std::uint32_t v);
  std::uint32_t value_index();

  // What is made inside is not visible after.
  template <class Fn> void scope(Fn inside) {
    require(++depth_ <= most_depth, "nested too deeply");
    std::vector<std::uint32_t> regs, values;
    std::swap(regs, block_regs_);
    std::swap(values, block_values_);
    const std::size_t n_checks = known_.size();
    const std::vector<std::int32_t> most = most_;
    inside();
    most_ = most;
    for (const std::uint32_t r : block_regs_) regs_[r] = State::gone;
    for (const std::uint32_t v : block_values_) assigned_[v] = State::gone;
    known_.forget(n_checks);
    std::swap(regs, block_regs_);
    std::swap(values, block_values_);
    --depth_;
  }

  std::uint32_t block() { return block([] {}, [] {}); }

  // `before` and `after` stand at its beginning and end, `after` behind what the plan says comes then.
  template <class Before, class After> std::uint32_t block(Before before, After after) {
    const auto index = static_cast<std::uint32_t>(p_.blocks.size());
    p_.blocks.emplace_back();
    const std::uint32_t outer = std::exchange(block_, index);
    in_body_ = true;
    scope([&] {
      before();
      const std::size_t n = in_.count("the number of items", 2);
      for (std::size_t i = 0; i < n; ++i) item();
      if (p_.pipes) events();
      else p_.blocks[block_].cost.code = cost();
      after();
    });
    block_ = outer;
    return index;
  }

  void item();
  // C++ takes all arguments, and is all there is.
  void cpp();

  // Model pipes: each equation that takes a unit or hands on what does, between the items that are no segments.
  void events();
  std::vector<std::uint32_t> numbers();
  std::uint32_t number_of(const Scalar& s) const { return s.constant ? no_value : static_cast<std::uint32_t>(p_.values.size()) + s.reg; }
  std::uint32_t number_of(std::uint32_t reg) const { return static_cast<std::uint32_t>(p_.values.size()) + reg; }

  void add_item(Block::Item::Kind kind, std::size_t index) { p_.blocks[block_].items.push_back({kind, static_cast<std::uint32_t>(index)}); }

  // The segment that ends here, to which instructions are added.
  Segment& segment();
  void add_instr(const Instr& i) {
    ++segment().count;
    p_.instrs.push_back(i);
  }

  std::int32_t origin() { return static_cast<std::int32_t>(in_.u(most_instrs, "an equation's number")); }

  void instrs();

  // Small ones in `imm`, the first lowest; others in `at`.
  void immediates(Instr& instr);
  Source source();

  // Equations over registers.

  void equation();
  void add_equation(ScalarEqn e);

  std::uint32_t argument() {
    require(p_.n_args != 0, "no such parameter");
    return static_cast<std::uint32_t>(in_.u(p_.n_args - 1, "a parameter"));
  }

  void compute(ScalarEqn& e);
  // The dtype of tiles, and the register of a number of its kind.
  std::uint32_t number_of_kind(ScalarEqn& e);
  void narrow(ScalarEqn& e);
  void round(ScalarEqn& e);

  void indices(ScalarEqn& e, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) e.operands[i] = scalar(DType::i64);
  }

  static std::uint32_t rank(const Param& p) { return p.is_region ? p.rank : 2; }

  // The memory of a parameter that has an argument.
  const Param& memory(ScalarEqn& e);
  void element(ScalarEqn& e);
  void part(ScalarEqn& e);
  Instr memory_instr(Op op, std::uint32_t param, std::uint32_t value, std::int32_t at) const;
  void store_part(ScalarEqn& e);
  void print(ScalarEqn& e);

  // Loops and branches. A tile that is carried lies in memory of its own: it is stored there before, loaded at the beginning of
  // each trip, stored again at its end, and loaded after.

  struct Carried { std::uint32_t param = 0, value = 0; };
  std::uint32_t memory_for(std::uint32_t value);
  void put(std::uint32_t param, std::uint32_t value, std::int32_t at);
  // Whether a value is what the loop carries: nothing else is stored there before the trip's end.
  bool lies_in(std::uint32_t param, std::uint32_t value) const {
    const auto carried = carried_.find(param);
    return carried != carried_.end() && p_.root[value] == carried->second;
  }
  void take(std::uint32_t param, std::uint32_t value, std::int32_t at);
  std::uint32_t any_value() {
    require(!p_.values.empty(), "no such value");
    return static_cast<std::uint32_t>(in_.u(p_.values.size() - 1, "a value"));
  }

  void loop();
  void branch();

  std::vector<CostOp> cost();
  Cursor& in_;
  Program p_;
  std::vector<State> assigned_, regs_;
  std::vector<DType> types_;               // of registers
  std::vector<std::int32_t> most_;         // of registers that are known to be 1 up to it; 0: not known
  std::vector<std::uint32_t> block_regs_, block_values_;
  Extents known_;                          // here
  std::map<std::uint32_t, std::uint32_t> carried_;  // by the memory of loops: the value that each trip begins with
  std::uint32_t block_ = 0, depth_ = 0;
  bool in_body_ = false;                   // before, registers are named that get their values later
};

}  // namespace pto_wsp
