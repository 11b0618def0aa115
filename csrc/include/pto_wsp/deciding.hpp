// Which registers of a plan decide which tasks there are, what they touch, cost, and where they run.
#pragma once

#include <vector>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// Those that decide nothing become scalar arguments on which no cost depends.
class Deciding {
 public:
  explicit Deciding(const Plan& plan);

  /// By number of the read: its value decides nothing.
  const std::vector<bool>& idle_reads() const { return idle_; }
  /// What computes with the values of idle reads, and decides nothing either; with `reads` those that wait for no task too.
  std::vector<const Node*> idle_nodes(bool reads) const;
  /// What data, symbols or slots hold decides something.
  bool data() const { return data_; }

 private:
  void roots();
  void spread();
  void decide(const Affine& a);
  void decide(const Operand& o);
  void decide(const std::vector<ViewDim>& dims);
  void decide(const Rule& rule);
  void decide(const TaskSpec& task);
  bool any(const Operand& o, const std::vector<bool>& regs) const;

  const Plan& plan_;
  std::vector<bool> decides_;  // registers
  std::vector<bool> idle_;     // reads
  bool data_ = false;
};

}  // namespace pto_wsp
