// What this machine can do at most, at the active instruction set level: what benchmarks compare with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace pto_wsp {

/// Each runs on `threads` threads (at least 1), the caller one of them, and returns when all have ended.

/// `flops` floating-point operations of f32, rounded up to whole bursts: fused multiply-adds in registers, two operations a lane.
void run_fma(std::uint64_t flops, unsigned threads);
/// Reads every byte once.
void run_read(std::span<const std::byte> bytes, unsigned threads);
/// Copies with ordinary stores. The sizes must be equal; the memory must not overlap.
void run_copy(std::span<std::byte> to, std::span<const std::byte> from, unsigned threads);

}  // namespace pto_wsp
