// Rules of schedules: each operation against values, and plans with rules that are none.
#include <limits>
#include <string>
#include <vector>

#include "check.hpp"
#include "pto_wsp/rule.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::RuleStatus;

namespace {

constexpr auto least = std::numeric_limits<std::int64_t>::min(), most = std::numeric_limits<std::int64_t>::max();

/// One task whose priority is the rule.
Bytes plan_of(const Bytes& priority, std::uint64_t memories = 1) {
  Plan p = one_loop(4);
  p.memories = memories;
  Task t;
  t.coords = {reg(0)};
  t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
  t.priority = priority;
  p.root = loop(0, 4, task(t));
  return p.bytes();
}

struct Value {
  RuleStatus status;
  std::uint64_t bits;
};

/// Of a rule for a task with register 0 and so on.
class Rules {
 public:
  explicit Rules(const Bytes& rule) : plan_(decode(plan_of(rule))) {}
  Value operator()(std::int64_t r = 0, std::uint64_t id = 0, std::uint64_t cost = 0) {
    const std::int64_t regs[] = {r};
    Value v{};
    v.status = runner_.run(plan_->schedules().front().priority, {regs, id, cost, 0, 4, memory}, v.bits);
    ++memory.position;
    return v;
  }
  pto_wsp::RuleMemory memory;

 private:
  std::shared_ptr<const pto_wsp::Plan> plan_;
  pto_wsp::RuleRunner runner_;
};

Value value(const std::string& op, const std::vector<std::int64_t>& operands, std::uint64_t type = i64, std::uint64_t to = i64,
            std::uint64_t gives = i64) {
  std::vector<Bytes> given;
  for (const std::int64_t o : operands) given.push_back(constant(o));
  return Rules(rule({rule_step(op, type, given, to)}, step(0), gives))();
}

void check_value(const std::string& op, const std::vector<std::int64_t>& operands, std::int64_t want) {
  const Value v = value(op, operands);
  CHECK(v.status == RuleStatus::ok);
  CHECK_EQ(static_cast<std::int64_t>(v.bits), want);
}

void check_status(const std::string& op, const std::vector<std::int64_t>& operands, RuleStatus want) {
  CHECK(value(op, operands).status == want);
}

void arithmetic_is_checked() {
  check_value("add", {most - 1, 1}, most);
  check_status("add", {most, 1}, RuleStatus::overflow);
  check_value("sub", {least + 1, 1}, least);
  check_status("sub", {least, 1}, RuleStatus::overflow);
  check_value("mul", {-3, 7}, -21);
  check_status("mul", {most, 2}, RuleStatus::overflow);
  check_value("floordiv", {-7, 2}, -4);
  check_value("mod", {-7, 2}, 1);
  check_value("mod", {7, -2}, -1);
  check_status("floordiv", {1, 0}, RuleStatus::zero_divisor);
  check_status("mod", {1, 0}, RuleStatus::zero_divisor);
  check_status("floordiv", {least, -1}, RuleStatus::overflow);
  check_value("and", {12, 10}, 8);
  check_value("or", {12, 10}, 14);
  check_value("xor", {12, 10}, 6);
  check_value("not", {5}, -6);
  check_value("shl", {3, 4}, 48);
  check_value("shr", {-16, 2}, -4);
  check_status("shl", {1, 64}, RuleStatus::shift);
  check_status("shr", {1, -1}, RuleStatus::shift);
  check_value("min", {-2, 3}, -2);
  check_value("max", {-2, 3}, 3);
  check_value("abs", {-9}, 9);
  check_status("abs", {least}, RuleStatus::overflow);
  check_value("neg", {9}, -9);
  check_status("neg", {least}, RuleStatus::overflow);
}

void comparisons_choose() {
  const auto chosen = [](const std::string& op, std::int64_t a, std::int64_t b) {
    return Rules(rule({rule_step(op, i64, {constant(a), constant(b)}),
                       rule_step("where", i64, {step(0), constant(std::int64_t{1}), constant(std::int64_t{0})})}, step(1)))().bits;
  };
  for (const std::int64_t a : {-1, 0, 1}) {
    CHECK_EQ(chosen("eq", a, 0), static_cast<std::uint64_t>(a == 0));
    CHECK_EQ(chosen("ne", a, 0), static_cast<std::uint64_t>(a != 0));
    CHECK_EQ(chosen("lt", a, 0), static_cast<std::uint64_t>(a < 0));
    CHECK_EQ(chosen("le", a, 0), static_cast<std::uint64_t>(a <= 0));
    CHECK_EQ(chosen("gt", a, 0), static_cast<std::uint64_t>(a > 0));
    CHECK_EQ(chosen("ge", a, 0), static_cast<std::uint64_t>(a >= 0));
  }
}

void what_a_task_is_asked() {
  Rules id(rule({rule_step("id", i64, {})}, step(0))), cost(rule({rule_step("cost", i64, {})}, step(0)));
  Rules position(rule({rule_step("position", i64, {})}, step(0))), coordinate(rule(reg(0, 3, -1)));
  for (std::uint64_t k = 0; k < 3; ++k) {
    CHECK_EQ(id(0, 10 + k).bits, 10 + k);
    CHECK_EQ(cost(0, 0, 100 * k).bits, 100 * k);
    CHECK_EQ(position().bits, k);
    CHECK_EQ(coordinate(static_cast<std::int64_t>(k)).bits, 3 * k - 1);
  }
  CHECK(coordinate(most).status == RuleStatus::overflow);
  // the first outputs of the published generator, whose state goes up by its gamma
  CHECK_EQ(value("splitmix64", {0}, i64, u64, u64).bits, 0xE220A8397B1DCDAFu);
  CHECK_EQ(value("splitmix64", {static_cast<std::int64_t>(0x9E3779B97F4A7C15u)}, i64, u64, u64).bits, 0x6E789E6AA1B965F4u);
}

void keys_are_numbered_as_they_appear() {
  Rules rules(rule({rule_step("first_appearance", i64, {affine(reg(0))}), rule_step("first_appearance", i64, {affine(reg(0, 0, 3))}),
                    rule_step("mul", i64, {step(1), constant(std::int64_t{100})}), rule_step("add", i64, {step(0), step(2)})}, step(3)));
  const std::int64_t keys[] = {5, -7, 5, 9, -7};
  const std::uint64_t numbers[] = {0, 1, 0, 2, 1};
  for (int i = 0; i < 5; ++i) CHECK_EQ(rules(keys[i]).bits, numbers[i]);
  for (std::int64_t k = 1000; k < 1000 + static_cast<std::int64_t>(pto_wsp::most_keys) - 3; ++k) CHECK(rules(k).status == RuleStatus::ok);
  CHECK(rules(5).status == RuleStatus::ok);
  CHECK(rules(-1).status == RuleStatus::keys);
}

void the_least_loaded_lane() {
  Rules rules(rule({rule_step("least_loaded", i64, {})}, step(0)));
  const std::uint64_t cycles[] = {5, 1, 1, 9, 3, 1, 2};
  const std::uint64_t lanes[] = {0, 1, 2, 3, 1, 2, 2};
  for (int i = 0; i < 7; ++i) {
    const std::uint64_t lane = rules().bits;
    CHECK_EQ(lane, lanes[i]);
    rules.memory.assign(0, static_cast<std::uint32_t>(lane), cycles[i]);
  }
}

void rules_that_are_none_are_refused() {
  const auto one = constant(std::int64_t{1});
  const auto refused = [](const Bytes& rule) { CHECK_THROWS(pto_wsp::PlanError, decode(plan_of(rule))); };
  decode(plan_of(rule({rule_step("add", i64, {one, one})}, step(0))));
  refused(rule({rule_step("plus", i64, {one, one})}, step(0)));
  refused(rule({rule_step("", i64, {})}, step(0)));
  refused(rule({rule_step("add", boolean, {one, one})}, step(0)));
  refused(rule({rule_step("add", f64, {constant(1.0), constant(1.0)})}, step(0)));           // as i64
  refused(rule({rule_step("add", f64, {constant(1.0), constant(1.0)})}, step(0), f64));      // no integer
  refused(rule({rule_step("eq", i64, {one, one})}, step(0), boolean));
  refused(rule({rule_step("eq", i64, {one, one})}, step(0)));
  refused(rule({rule_step("add", i64, {step(0), one})}, step(0)));                            // itself
  refused(rule({rule_step("add", i64, {one, step(1)}), rule_step("id", i64, {})}, step(0)));  // a later one
  refused(rule({rule_step("add", i64, {one, one})}, step(1)));
  refused(rule({rule_step("where", i64, {constant(std::int64_t{2}), one, one})}, step(0)));                 // no bool
  refused(rule({rule_step("splitmix64", f64, {constant(1.0)})}, step(0), u64));
  refused(rule({}, one, i64, 1));                                                             // no such memory
  refused(Out().u(~std::uint64_t{0}).bytes);
}

}  // namespace

int main() {
  arithmetic_is_checked();
  comparisons_choose();
  what_a_task_is_asked();
  keys_are_numbered_as_they_appear();
  the_least_loaded_lane();
  rules_that_are_none_are_refused();
  return check::result();
}
