#include "pto_wsp/limits.hpp"

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "pto_wsp/isa.hpp"
#include "tiles/levels.hpp"

namespace pto_wsp {
namespace {

tiles::Peak peak() noexcept {
#ifdef PTO_WSP_X86_64
  switch (active_isa()) {
    case Isa::avx512: return tiles::peak_avx512();
    case Isa::avx2: return tiles::peak_avx2();
    case Isa::portable: break;
  }
#endif
  return tiles::peak_portable();
}

// Calls work(i) for i below `threads`, each on a thread of its own.
template <class Work> void on_threads(unsigned threads, Work work) {
  if (threads == 0) throw std::invalid_argument("no threads");
  const auto run = [&](unsigned i) {
    const FpEnv environment;
    work(i);
  };
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(run, i);
  run(0);
}

struct alignas(64) Sink {
  std::byte bytes[64] = {};
};

// Bytes begin .. end of part i of n: whole cache lines but in the last.
std::pair<std::size_t, std::size_t> part(std::size_t bytes, unsigned i, unsigned n) {
  const std::size_t lines = bytes / 64;
  return {lines * i / n * 64, i + 1 == n ? bytes : lines * (i + 1) / n * 64};
}

}  // namespace

void run_fma(std::uint64_t flops, unsigned threads) {
  const tiles::Peak p = peak();
  on_threads(threads, [&](unsigned) {
    Sink sink;
    p.fma({(flops / threads + p.flops - 1) / p.flops, nullptr, nullptr, sink.bytes});
  });
}

void run_read(std::span<const std::byte> bytes, unsigned threads) {
  const tiles::Peak p = peak();
  on_threads(threads, [&](unsigned i) {
    Sink sink;
    const auto [begin, end] = part(bytes.size(), i, threads);
    p.read({end - begin, bytes.data() + begin, nullptr, sink.bytes});
  });
}

void run_copy(std::span<std::byte> to, std::span<const std::byte> from, unsigned threads) {
  if (to.size() != from.size()) throw std::invalid_argument("the sizes differ");
  const tiles::Peak p = peak();
  on_threads(threads, [&](unsigned i) {
    Sink sink;
    const auto [begin, end] = part(from.size(), i, threads);
    p.copy({end - begin, from.data() + begin, to.data() + begin, sink.bytes});
  });
}

}  // namespace pto_wsp
