// Plans and memory that several tests of runs use.
#pragma once

#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "plan_writer.hpp"
#include "pto_wsp/instance.hpp"

namespace helpers {

using namespace writer;

inline std::shared_ptr<const pto_wsp::Plan> decode(const Bytes& b) {
  return std::make_shared<const pto_wsp::Plan>(pto_wsp::Plan::decode(b));
}

/// A dense row-major array of f32.
struct Array {
  std::vector<std::int64_t> shape;
  std::vector<float> data;

  explicit Array(std::vector<std::int64_t> s, float fill = 0) : shape(std::move(s)) {
    std::int64_t n = 1;
    for (const std::int64_t d : shape) n *= d;
    data.assign(static_cast<std::size_t>(n), fill);
  }
  void bind(pto_wsp::Instance& i, std::size_t tensor) {
    std::vector<std::int64_t> strides(shape.size());
    std::int64_t s = 4;
    for (std::size_t d = shape.size(); d-- > 0;) {
      strides[d] = s;
      s *= shape[d];
    }
    i.bind(tensor, reinterpret_cast<std::byte*>(data.data()), shape, strides, 0, true);
  }
};

constexpr std::uint64_t add = 30, mul = 32;

/// What runs may take for short: no task, some, all.
constexpr std::chrono::nanoseconds hand_overs[] = {std::chrono::nanoseconds(0), std::chrono::microseconds(1), std::chrono::nanoseconds::max()};

/// for i in P(n): t1[i, :] = t0[i, :] + t0[i, :], tiles of 1 x 8, independent.
inline Plan one_loop(std::int64_t n) {
  Plan p;
  p.regs = 1;
  p.tensors = {{{Affine(n), Affine(8)}}, {{Affine(n), Affine(8)}}};
  p.kernels = {kernel(add, 1, 8, 10)};
  Task t;
  t.coords = {reg(0)};
  t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
  p.root = loop(0, n, task(t));
  return p;
}

/// Two loops, the second reads what the first wrote: t2[i] = 2 * t1[i], t1[i] = 2 * t0[i].
inline Plan two_loops(std::int64_t n) {
  Plan p;
  p.regs = 2;
  p.tensors = {{{Affine(n), Affine(8)}}, {{Affine(n), Affine(8)}}, {{Affine(n), Affine(8)}}};
  p.kernels = {kernel(add, 1, 8, 10)};
  Task a, b;
  a.coords = {reg(0)};
  a.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, true, {slice(reg(0)), slice(0)})};
  b.site = 1;
  b.coords = {reg(1)};
  b.args = {view(1, true, {slice(reg(1)), slice(0)}), view(2, false, {slice(reg(1)), slice(0)})};
  p.root = block({loop(0, n, task(a)), loop(1, n, task(b))});
  return p;
}

/// for i in P.seq(n): t0[0, :] += t0[0, :]
inline Plan chain(std::int64_t n, bool tracked) {
  Plan p;
  p.regs = 1;
  p.tensors = {{{Affine(1), Affine(8)}}};
  p.kernels = {inout_kernel(1, 8, 10)};
  Task t;
  t.coords = {reg(0)};
  t.args = {view(0, tracked, {slice(0), slice(0)})};
  p.root = loop(0, n, task(t), true);
  return p;
}

inline bool run(pto_wsp::Instance& i) {
  i.start();
  return i.wait(60);
}

}  // namespace helpers
