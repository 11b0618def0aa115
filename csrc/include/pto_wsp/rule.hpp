// Rules of schedules: scalar expressions of a task, evaluated in program order as it is issued.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// keys: more different ones than a scope may meet. Others as ScalarStatus.
enum class RuleStatus : std::uint8_t { ok, overflow, zero_divisor, shift, cast_range, keys };

/// Different keys of one `first_appearance`.
inline constexpr std::size_t most_keys = 65536;

/// What a scope remembers of the tasks it had.
class RuleMemory {
 public:
  std::uint64_t position = 0;  // how many there were

  /// The number of a key in order of first appearance, of the operation `which`. False: there are too many.
  bool number_of(std::uint32_t which, std::uint64_t key, std::uint64_t& out);
  /// Of `lanes` lanes of a pool, the one with the fewest cycles; the lowest of several.
  std::uint32_t least_loaded(std::uint32_t pool, std::uint32_t lanes);
  /// A task of so many cycles goes to a lane. Kept once `least_loaded` has been asked.
  void assign(std::uint32_t pool, std::uint32_t lane, std::uint64_t cycles);

 private:
  struct Loads {
    std::vector<std::uint64_t> of;
    std::set<std::pair<std::uint64_t, std::uint32_t>> order;  // cycles, lane
  };
  std::vector<std::unordered_map<std::uint64_t, std::uint64_t>> keys_;  // by operation
  std::vector<Loads> loads_;                                            // by pool
};

/// What a rule may ask about.
struct RuleInputs {
  const std::int64_t* regs;
  std::uint64_t id, cost;
  std::uint32_t pool, lanes;  // of the task, and how many it has there
  RuleMemory& memory;
};

/// An operation of rules. A new one is a row of the table in rule.cpp; plans name it.
struct RuleOp {
  std::string_view name;
  std::uint32_t arity;
  /// Whether there is such an operation on operands of `type`; of none it is i64.
  bool (*takes)(DType type);
  DType (*gives)(DType type, DType to);
  /// Whether its first operand is a bool, whatever `type`; whether it is one on scalars alone.
  bool condition, scalar;
  RuleStatus (*apply)(const RuleStep& step, const RuleInputs& in, const std::uint64_t* operands, std::uint64_t& out);
};

/// The operation of that name, or null: those of rules, and those on scalars, checked.
const RuleOp* find_rule_op(std::string_view name);

/// The value of a rule, of its 64 bits. The steps are run in order.
class RuleRunner {
 public:
  RuleStatus run(const Rule& rule, const RuleInputs& in, std::uint64_t& out);

 private:
  RuleStatus value(const Operand& o, const RuleInputs& in, std::uint64_t& out) const;
  std::vector<std::uint64_t> values_;
};

}  // namespace pto_wsp
