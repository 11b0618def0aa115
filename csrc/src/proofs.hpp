#pragma once
// What is known of registers and of data while a plan is bound, and what follows from it. Shared by bound.cpp and proofs.cpp only.

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {

// Sums of products stay far from the end of Wide; what is beyond 64 bits need not be exact.
inline constexpr Wide far = Wide{1} << 120;
inline constexpr Interval everything{INT64_MIN, INT64_MAX};

Wide times(Wide a, Wide b);

// A condition: the form is above zero.
struct Above {
  Wide constant = 0;
  std::vector<std::pair<std::uint32_t, Wide>> terms;

  Above& add(const Affine& a, Wide factor) {
    constant += factor * a.constant;
    for (const Term& t : a.terms) {
      const auto same = std::ranges::find(terms, t.reg, &std::pair<std::uint32_t, Wide>::first);
      if (same == terms.end())
        terms.emplace_back(t.reg, factor * t.coef);
      else
        same->second += factor * t.coef;
    }
    return *this;
  }
  Above& add(Wide c) {
    constant += c;
    return *this;
  }
};

// What integer tensors hold that no task writes.
struct Data {
  bool known = false;   // lo .. hi
  bool sorted = false;  // and none below the one before; of one dimension
  std::int64_t lo = 0, hi = 0;
};

class Proofs {
 public:
  Proofs(const Plan& plan, std::span<const Buffer> buffers)
      : plan_(plan), buffers_(buffers), ranges_(plan.n_regs()), definitions_(plan.n_regs(), nullptr) {}

 protected:
  // The range of an operation's result, when it has one. `sure` becomes false where it may fail.
  Interval result(const ScalarSpec& s, bool& sure) const;
  bool surely_fits(const ArgSpec& spec, DType dtype) const;
  const Data& data(std::uint32_t tensor);
  bool proved_inside(const ViewDim& v, std::int64_t dim) const;
  // Whether a form is proved to be at least `bound`, from the ranges of registers and from what defines them.
  bool at_least(const Above& form, Wide bound) const;

  const Plan& plan_;
  std::span<const Buffer> buffers_;
  std::vector<Range> ranges_;
  std::vector<const Node*> definitions_;   // of registers that are not symbols

 private:
  Interval range_of(const Operand& o, DType type) const;
  Wide least(const Above& form, int depth, int& budget) const;
  bool ordered(const Node& a, const Node* b) const;

  std::vector<std::optional<Data>> data_;  // of tensors, once asked for
};

}  // namespace pto_wsp
