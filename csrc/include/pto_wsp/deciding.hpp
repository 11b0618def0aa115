// Which registers of a plan decide which tasks there are, what they touch, cost, and where they run.
#pragma once

#include <cstdint>
#include <vector>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// Those that decide nothing become scalar arguments on which no cost depends. What a slot or a channel hands on decides where a number
/// that comes out of it does: each field of a channel's tokens for itself, whoever sends and receives them.
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
  void find_flow();
  void flow(const Operand& from, std::uint32_t to);
  void flow(const Affine& from, std::uint32_t to);
  void flow(std::uint32_t from, std::uint32_t to);
  void roots();
  void decide(const Affine& a);
  void decide(const Operand& o);
  void decide(const std::vector<ViewDim>& dims);
  void decide(const Rule& rule);
  void decide(const TaskSpec& task);

  const Plan& plan_;
  // Numbers: the registers; behind them the slots, then the fields of the tokens of each channel.
  std::vector<std::vector<std::uint32_t>> from_, into_;  // by number those that it is computed from, and that are from it
  std::vector<bool> decides_;  // numbers
  std::vector<bool> idle_;     // reads
  bool data_ = false;
};

}  // namespace pto_wsp
