// Memory of a run's temporaries: one block, in which tensors that are never alive at once share places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {

/// A tensor without memory: row-major, for these symbols. A dimension without a value stays 0, and `BoundPlan::bind` says so.
Buffer shape_of(const TensorInfo& t, std::span<const std::int64_t> symbols);

class Arena {
 public:
  Arena() = default;
  ~Arena() { give_back(); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Fills in the buffers of the plan's temporaries, for these symbols: row-major, 64-byte aligned. Places are the first that
  /// fit when ACQUIRE and RELEASE nodes are met in the order of the plan; a temporary that
  /// is acquired in several places of the plan has one of its own, and processes of one pipeline share none.
  /// Memory of an earlier run is used again where it suffices. False: it takes more than `limit` bytes, and no buffer has memory.
  /// Throws bad_alloc.
  bool prepare(const Plan& plan, std::span<const std::int64_t> symbols, std::span<Buffer> buffers, std::uint64_t limit);

  /// Of the last `prepare`.
  std::uint64_t bytes() const { return bytes_; }

  /// Makes the tensor zeros. No task uses its memory.
  void clear(std::uint32_t tensor);

  /// Between runs: gives back what few runs need.
  void trim();

  // --- a run with several threads, in program order ---
  /// Tasks up to `serial` may use the tensor's memory, later ones do not.
  void release(std::uint32_t tensor, std::uint64_t serial);
  /// The serial up to which tasks must be retired before the tensor's memory is used.
  std::uint64_t acquire(std::uint32_t tensor);

 private:
  struct Place {
    std::uint64_t begin = 0, end = 0;
  };
  struct Released {
    Place place;
    std::uint64_t serial;
  };

  void lay_out(const Plan& plan, std::uint32_t node);
  void lay_out_processes(const Plan& plan, const Node& pipeline);
  void place(std::uint32_t tensor);
  void give_back();

  std::byte* data_ = nullptr;
  std::uint64_t capacity_ = 0, bytes_ = 0;
  std::vector<std::uint64_t> sizes_;
  std::vector<Place> places_;         // by tensor
  std::vector<bool> shared_;          // by tensor: others may use its place before and after it
  std::vector<Place> live_;           // while laying out, by where they begin
  std::vector<Place> laid_;           // all so far
  std::vector<Released> released_;    // do not overlap
};

}  // namespace pto_wsp
