// What the control of a workload reads from tensors that its tasks write: kept by a run, given to a dry run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pto_wsp {

/// Numbers in program order: the value of each scalar read, as 64 bits, and each index that a gather reads.
class Tape {
 public:
  /// For a run; at most `limit` numbers are kept.
  explicit Tape(std::uint64_t limit) : limit_(limit) {}

  void keep(std::int64_t number) { keep(std::span(&number, 1)); }
  void keep(std::span<const std::int64_t> numbers) {
    const std::size_t room = static_cast<std::size_t>(limit_) - numbers_.size();
    complete_ = complete_ && numbers.size() <= room;
    if (complete_) numbers_.insert(numbers_.end(), numbers.begin(), numbers.end());
  }

  const std::vector<std::int64_t>& numbers() const { return numbers_; }
  /// Whether these are all.
  bool complete() const { return complete_; }

 private:
  std::uint64_t limit_;
  std::vector<std::int64_t> numbers_;
  bool complete_ = true;
};

/// A tape that is read, from the beginning.
class TapeReader {
 public:
  TapeReader() = default;
  explicit TapeReader(std::span<const std::int64_t> numbers) : left_(numbers) {}

  /// The next `n` numbers, or none where fewer are left.
  std::span<const std::int64_t> take(std::size_t n) {
    if (n > left_.size()) return {};
    const std::span<const std::int64_t> out = left_.first(n);
    left_ = left_.subspan(n);
    return out;
  }
  std::size_t left() const { return left_.size(); }

 private:
  std::span<const std::int64_t> left_;
};

}  // namespace pto_wsp
