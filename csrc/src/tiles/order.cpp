// Operations that compare the elements of a row: one portable form for all levels, as nothing is rounded.
//
// An element's key is a number that is larger the earlier the element comes; ties are broken by the index.

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>

#include "levels.hpp"

namespace pto_wsp::tiles {
namespace {

using Key = std::uint32_t;

// Floats by their bits, in the upper half of a word where they have 16: negative ones in reverse, NaN first, -0 as +0.
template <int size, Key infinity> struct FloatKey {
  static constexpr int element = size;
  static Key of(const std::byte* p) noexcept {
    Key b = 0;
    if constexpr (size == 4) {
      std::memcpy(&b, p, 4);
    } else {
      std::uint16_t half = 0;
      std::memcpy(&half, p, 2);
      b = Key{half} << 16;
    }
    // Without branches: signs are as good as random.
    const Key magnitude = b & 0x7fffffffu, negative = magnitude == 0 ? 0 : Key{0} - (b >> 31);
    const Key key = magnitude ^ 0x80000000u ^ negative;
    return magnitude > infinity ? ~Key{0} : key;
  }
  static Key reversed(const std::byte* p) noexcept {
    const Key k = of(p);
    return k == ~Key{0} ? k : ~k;
  }
};
using F32Key = FloatKey<4, 0x7f800000u>;
using F16Key = FloatKey<2, 0x7c000000u>;
using BF16Key = FloatKey<2, 0x7f800000u>;
// Integers of at most four bytes.
template <class E> struct IntegerKey {
  static constexpr int element = sizeof(E);
  static Key of(const std::byte* p) noexcept {
    E x;
    std::memcpy(&x, p, sizeof x);
    return static_cast<Key>(static_cast<std::int64_t>(x) - std::numeric_limits<E>::min());
  }
  static Key reversed(const std::byte* p) noexcept { return ~of(p); }
};

// Elements of eight bytes: i64, u64, f64.
using WideKey = std::uint64_t;
template <class E> WideKey wide_key(const std::byte* p) noexcept {
  WideKey b = 0;
  std::memcpy(&b, p, 8);
  constexpr WideKey sign = WideKey{1} << 63;
  if constexpr (std::is_unsigned_v<E>) return b;
  if constexpr (std::is_integral_v<E>) return b ^ sign;
  const WideKey magnitude = b & ~sign;
  if (magnitude > 0x7ff0000000000000u) return ~WideKey{0};
  return magnitude ^ sign ^ (magnitude == 0 ? 0 : WideKey{0} - (b >> 63));
}
template <class E> WideKey wide_reversed(const std::byte* p) noexcept {
  const WideKey k = wide_key<E>(p);
  return std::is_floating_point_v<E> && k == ~WideKey{0} ? k : ~k;
}

template <WideKey (*key)(const std::byte*) noexcept> void wide_arg_best(const OpArgs& a) {
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    std::int32_t at = 0;
    for (std::int32_t c = 1; c < a.inner; ++c)
      if (key(s + c * std::ptrdiff_t{8}) > key(s + at * std::ptrdiff_t{8})) at = c;
    std::memcpy(a.dst + r * a.dst_rs, &at, 4);
  }
}

template <class E> void wide_topk_indices(const OpArgs& a) {
  auto* order = reinterpret_cast<std::int32_t*>(a.work);
  const std::int32_t k = std::min(a.cols, a.inner);
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    const auto before = [s](std::int32_t x, std::int32_t y) {
      const WideKey p = wide_key<E>(s + x * std::ptrdiff_t{8}), q = wide_key<E>(s + y * std::ptrdiff_t{8});
      return p > q || (p == q && x < y);
    };
    std::iota(order, order + a.inner, 0);
    std::partial_sort(order, order + k, order + a.inner, before);
    for (std::int32_t c = 0; c < a.cols; ++c) {
      const std::int32_t column = c < k ? order[c] : -1;
      std::memcpy(a.dst + r * a.dst_rs + c * std::ptrdiff_t{4}, &column, 4);
    }
  }
}

template <class E> OpFn wide_indices_of(Op op) noexcept {
  switch (op) {
    case Op::rowargmax: return wide_arg_best<wide_key<E>>;
    case Op::rowargmin: return wide_arg_best<wide_reversed<E>>;
    case Op::extract_topk_indices: return wide_topk_indices<E>;
    default: return nullptr;
  }
}

template <class K, Key (*key)(const std::byte*) noexcept> void arg_best(const OpArgs& a) {
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    Key best = 0;
    for (std::int32_t c = 0; c < a.inner; ++c) best = std::max(best, key(s + c * std::ptrdiff_t{K::element}));
    std::int32_t at = 0;
    while (key(s + at * std::ptrdiff_t{K::element}) != best) ++at;
    std::memcpy(a.dst + r * a.dst_rs, &at, 4);
  }
}
template <class K> void arg_max(const OpArgs& a) { arg_best<K, K::of>(a); }
template <class K> void arg_min(const OpArgs& a) { arg_best<K, K::reversed>(a); }

// An element with its column: the larger one comes first.
using Ranked = std::uint64_t;
Ranked ranked(Key key, std::int32_t column) noexcept { return (Ranked{key} << 32) | (0xffffffffu - static_cast<std::uint32_t>(column)); }
std::int32_t column_of(Ranked x) noexcept { return static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(x)); }

constexpr std::int32_t few = 32;           // so many are kept in order as the row is read,
constexpr std::int32_t very_few = 8;       //   of a long row only so many: it may be in ascending order
constexpr std::int32_t long_row = 2048;    // from here on it pays to count first
constexpr int digit_bits = 11;
constexpr std::size_t digits = std::size_t{1} << digit_bits;

// The first k of n, k <= few.
template <class K> void first_few(const std::byte* s, std::int32_t n, std::int32_t k, Ranked* best) {
  std::int32_t have = 0;
  Key least = 0;
  for (std::int32_t c = 0; c < n; ++c) {
    const Key key = K::of(s + c * std::ptrdiff_t{K::element});
    if (have == k && key <= least) [[likely]] continue;
    const Ranked x = ranked(key, c);
    std::int32_t at = have < k ? have++ : k - 1;
    for (; at > 0 && best[at - 1] < x; --at) best[at] = best[at - 1];
    best[at] = x;
    least = static_cast<Key>(best[have - 1] >> 32);
  }
}

// The least leading digit that the first k elements may have.
template <class K> Key least_digit(const std::byte* s, std::int32_t n, std::int32_t k, std::uint32_t* count) {
  std::fill_n(count, digits, 0u);
  for (std::int32_t c = 0; c < n; ++c) ++count[K::of(s + c * std::ptrdiff_t{K::element}) >> (32 - digit_bits)];
  std::size_t digit = digits - 1;
  for (auto left = static_cast<std::uint32_t>(k); count[digit] < left; --digit) left -= count[digit];
  return static_cast<Key>(digit);
}

template <class K> void first_many(const std::byte* s, std::int32_t n, std::int32_t k, Ranked* best, std::uint32_t* count) {
  const Key least = n < long_row || k == n ? 0 : least_digit<K>(s, n, k, count) << (32 - digit_bits);
  std::size_t have = 0;
  for (std::int32_t c = 0; c < n; ++c) {
    const Key key = K::of(s + c * std::ptrdiff_t{K::element});
    best[have] = ranked(key, c);
    have += key >= least ? 1 : 0;
  }
  if (static_cast<std::size_t>(k) < have) std::nth_element(best, best + k, best + have, std::greater<>());
  std::sort(best, best + k, std::greater<>());
}

template <class K> void topk_indices(const OpArgs& a) {
  auto* count = reinterpret_cast<std::uint32_t*>(a.work);
  auto* best = reinterpret_cast<Ranked*>(a.work + digits * sizeof(std::uint32_t));
  const std::int32_t k = std::min(a.cols, a.inner);
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    if (k <= (a.inner < long_row ? few : very_few)) first_few<K>(s, a.inner, k, best);
    else first_many<K>(s, a.inner, k, best, count);
    for (std::int32_t c = 0; c < a.cols; ++c) {
      const std::int32_t column = c < k ? column_of(best[c]) : -1;
      std::memcpy(a.dst + r * a.dst_rs + c * std::ptrdiff_t{4}, &column, 4);
    }
  }
}

// The elements that indices of extract_topk_indices name; -inf, of integers the smallest, where an index names none.
template <int size, std::uint64_t lowest> void topk_values(const OpArgs& a) {
  for (std::int32_t r = 0; r < a.rows; ++r)
    for (std::int32_t c = 0; c < a.cols; ++c) {
      std::int32_t i = 0;
      std::memcpy(&i, a.src[1] + r * a.src_rs[1] + c * std::ptrdiff_t{4}, 4);
      std::byte* d = a.dst + r * a.dst_rs + c * std::ptrdiff_t{size};
      if (i >= 0 && i < a.inner) {
        std::memcpy(d, a.src[0] + r * a.src_rs[0] + i * std::ptrdiff_t{size}, size);
      } else {
        const std::uint64_t x = lowest;
        std::memcpy(d, &x, size);  // its low bytes come first
      }
    }
}

OpFn values_of(DType t) noexcept {
  switch (t) {
    case DType::f32: return topk_values<4, 0xff800000u>;
    case DType::f16: return topk_values<2, 0xfc00u>;
    case DType::bf16: return topk_values<2, 0xff80u>;
    case DType::f64: return topk_values<8, 0xfff0000000000000u>;
    case DType::i8: return topk_values<1, 0x80u>;
    case DType::i16: return topk_values<2, 0x8000u>;
    case DType::i32: return topk_values<4, 0x80000000u>;
    case DType::i64: return topk_values<8, 0x8000000000000000u>;
    case DType::u8: return topk_values<1, 0>;
    case DType::u16: return topk_values<2, 0>;
    case DType::u32: return topk_values<4, 0>;
    case DType::u64: return topk_values<8, 0>;
    default: return nullptr;
  }
}

template <class K> OpFn indices_of(Op op) noexcept {
  switch (op) {
    case Op::rowargmax: return arg_max<K>;
    case Op::rowargmin: return arg_min<K>;
    case Op::extract_topk_indices: return topk_indices<K>;
    default: return nullptr;
  }
}

}  // namespace

OpFn find_order(Op op, DType src, DType dst) noexcept {
  if (op == Op::topk_values) return src == dst ? values_of(src) : nullptr;
  if (dst != DType::i32) return nullptr;
  switch (src) {
    case DType::f32: return indices_of<F32Key>(op);
    case DType::f16: return indices_of<F16Key>(op);
    case DType::bf16: return indices_of<BF16Key>(op);
    case DType::f64: return wide_indices_of<double>(op);
    case DType::i8: return indices_of<IntegerKey<std::int8_t>>(op);
    case DType::i16: return indices_of<IntegerKey<std::int16_t>>(op);
    case DType::i32: return indices_of<IntegerKey<std::int32_t>>(op);
    case DType::i64: return wide_indices_of<std::int64_t>(op);
    case DType::u8: return indices_of<IntegerKey<std::uint8_t>>(op);
    case DType::u16: return indices_of<IntegerKey<std::uint16_t>>(op);
    case DType::u32: return indices_of<IntegerKey<std::uint32_t>>(op);
    case DType::u64: return wide_indices_of<std::uint64_t>(op);
    default: return nullptr;
  }
}

}  // namespace pto_wsp::tiles

namespace pto_wsp {

std::size_t topk_work_bytes(std::int32_t cols) noexcept {
  return (tiles::digits * sizeof(std::uint32_t) + static_cast<std::size_t>(cols) * sizeof(tiles::Ranked) + 63) / 64 * 64;
}

}  // namespace pto_wsp
