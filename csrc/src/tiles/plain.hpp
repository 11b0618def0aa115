#pragma once
// What the plain loops share: elements of memory, integers that wrap, and loops over one and two operands.

#include <bit>
#include <concepts>
#include <cstring>
#include <type_traits>

#include "pto_wsp/scalar.hpp"
#include "pto_wsp/tile_ops.hpp"

namespace pto_wsp::tiles {
namespace {

template <class E> E get(const std::byte* p) noexcept {
  E x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
template <class E> void put(std::byte* p, E x) noexcept { std::memcpy(p, &x, sizeof x); }

template <class E> using Unsigned = std::make_unsigned_t<E>;
// Of the two's complement of the type; wide enough that small types do not become signed ints on the way.
template <std::integral E> E wrap(std::uint64_t x) noexcept { return static_cast<E>(static_cast<Unsigned<E>>(x)); }
template <std::integral E> std::uint64_t bits(E x) noexcept { return static_cast<std::uint64_t>(x); }

// An operand's element (r, c) for c = 0, and how far the next one is.
template <class E> std::ptrdiff_t step(const OpArgs& a, int i) { return ((a.bcast >> i) & 1) != 0 ? 0 : static_cast<std::ptrdiff_t>(sizeof(E)); }

template <class E, class Fn> void map1(const OpArgs& a) {
  const std::ptrdiff_t next = step<E>(a, 0);
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    std::byte* d = a.dst + r * a.dst_rs;
    for (std::int32_t c = 0; c < a.cols; ++c, d += sizeof(E), s += next) put<E>(d, Fn::of(get<E>(s)));
  }
}

template <class E, class D, class Fn> void map2(const OpArgs& a) {
  const std::ptrdiff_t next0 = step<E>(a, 0), next1 = step<E>(a, 1);
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte *x = a.src[0] + r * a.src_rs[0], *y = a.src[1] + r * a.src_rs[1];
    std::byte* d = a.dst + r * a.dst_rs;
    for (std::int32_t c = 0; c < a.cols; ++c, d += sizeof(D), x += next0, y += next1) put<D>(d, static_cast<D>(Fn::of(get<E>(x), get<E>(y))));
  }
}

// A function of f64 on floats of another type, rounded once.
template <DType t> double get_float(const std::byte* p) {
  if constexpr (t == DType::f32) return static_cast<double>(get<float>(p));
  else return std::bit_cast<double>(load_scalar(p, t));
}
template <DType t> void put_float(std::byte* p, double x) {
  if constexpr (t == DType::f32) put<float>(p, static_cast<float>(x));
  else store_scalar(std::bit_cast<std::uint64_t>(round_float(x, t)), t, p);
}
template <DType t, class Fn> void widened1(const OpArgs& a) {
  const auto size = static_cast<std::ptrdiff_t>(size_of(t));
  const std::ptrdiff_t next = (a.bcast & 1) != 0 ? 0 : size;
  for (std::int32_t r = 0; r < a.rows; ++r)
    for (std::int32_t c = 0; c < a.cols; ++c) {
      put_float<t>(a.dst + r * a.dst_rs + c * size, Fn::of(get_float<t>(a.src[0] + r * a.src_rs[0] + c * next)));
    }
}
template <DType t, class Fn> void widened2(const OpArgs& a) {
  const auto size = static_cast<std::ptrdiff_t>(size_of(t));
  const std::ptrdiff_t next0 = (a.bcast & 1) != 0 ? 0 : size, next1 = (a.bcast & 2) != 0 ? 0 : size;
  for (std::int32_t r = 0; r < a.rows; ++r)
    for (std::int32_t c = 0; c < a.cols; ++c) {
      const double x = get_float<t>(a.src[0] + r * a.src_rs[0] + c * next0), y = get_float<t>(a.src[1] + r * a.src_rs[1] + c * next1);
      put_float<t>(a.dst + r * a.dst_rs + c * size, Fn::of(x, y));
    }
}

}  // namespace
}  // namespace pto_wsp::tiles
