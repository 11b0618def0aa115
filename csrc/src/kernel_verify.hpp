#pragma once
// What must hold for an instruction, beside where its operands are defined. Shared by the files kernel*.cpp only.

#include <map>
#include <tuple>
#include <vector>

#include "kernel_impl.hpp"

namespace pto_wsp {

// Throws PlanError.
[[noreturn]] void refuse_kernel(const char* what);
inline void require(bool ok, const char* what) {
  if (!ok) [[unlikely]]
    refuse_kernel(what);
}

// What is known of valid extents at a place in a kernel: the checks that all arguments there have passed.
class Extents {
 public:
  void learn(const Check& c);
  std::size_t size() const { return checks_.size(); }
  void forget(std::size_t all_but);
  // Whether `have` is always at least `need`: along the checks' arrows.
  bool cover(const DimRef& have, const DimRef& need) const;

 private:
  bool reaches(const DimRef& have, const DimRef& need) const;
  using Id = std::tuple<std::int32_t, std::uint8_t, int>;
  std::vector<Check> checks_;
  mutable std::map<std::tuple<Id, Id, std::int32_t>, bool> known_;
};

// Throws PlanError where the instruction does not fit its operands and result. Fills what follows from them: `operand`, `inner`,
// `outer`, `whole`.
void verify(Instr& i, const Program& p, const Extents& known);

}  // namespace pto_wsp
