#pragma once
// What C++ bodies of kernels see: typed views of the kernel's parameters.
//
// In[Tile[16, 128, DType.F32]] x is a `const pto_wsp::Tile<const float, 16, 128>& x`, Out and InOut without the inner const:
//
//     for (int i = 0; i < x.rows(); ++i)                  // valid rows and columns: what the task has
//       for (int j = 0; j < x.cols(); ++j) out(i, j) = 2.0f * x(i, j);
//
// In[Tensor[None, 128, DType.F32]] x is a `const pto_wsp::Region<const float, 2>& x`, Scalar[DType.F32] s a `float s`.
// Elements that are not valid must not be touched, and every valid element of an Out tile must be written.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <stdexcept>

namespace pto_wsp {

// IEEE binary16. Computing happens in float; storing rounds to nearest, ties to even.
class f16 {
 public:
  f16() = default;
  f16(float x) noexcept : bits_(round(x)) {}
  operator float() const noexcept {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits_ & 0x8000u) << 16, rest = bits_ & 0x7fffu;
    if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
    if (rest < 0x400u) return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(rest) * 0x1p-24f));
    return std::bit_cast<float>(sign | ((rest << 13) + 0x38000000u));
  }

 private:
  static std::uint16_t round(float x) noexcept {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | (rest >> 13 & 0x3ffu));
    if (rest >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
    if (rest < 0x38800000u) {  // a multiple of 2^-24, which adding 0.5 rounds to
      const std::uint32_t sum = std::bit_cast<std::uint32_t>(std::bit_cast<float>(rest) + 0.5f);
      return static_cast<std::uint16_t>(sign | (sum - 0x3f000000u));
    }
    return static_cast<std::uint16_t>(sign | ((rest - 0x38000000u + 0xfffu + (rest >> 13 & 1u)) >> 13));
  }
  std::uint16_t bits_;
};

// The upper half of a float. As f16.
class bf16 {
 public:
  bf16() = default;
  bf16(float x) noexcept : bits_(round(x)) {}
  operator float() const noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16); }

 private:
  static std::uint16_t round(float x) noexcept {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  }
  std::uint16_t bits_;
};

// Eight bits of a float, to move and to compare; computing with them is the body's own.
struct f8e4m3 {
  std::uint8_t bits;
};
struct f8e5m2 {
  std::uint8_t bits;
};

// What the runtime hands over for one parameter: of tiles two sizes and strides, of regions as many as dimensions, of scalars
// the bytes of the value. Strides are in bytes and multiples of the element's size, as is the address.
struct Argument {
  std::byte* data;
  std::int64_t strides[4];
  std::int32_t sizes[4];
  std::byte scalar[8];
};

// A tile in memory: the valid part of `static_rows` x `static_cols` elements. Columns lie side by side.
template <class T, int Rows, int Cols> class Tile {
 public:
  using element = T;
  static constexpr int static_rows = Rows, static_cols = Cols;

  explicit Tile(const Argument& a) noexcept
      : data_(reinterpret_cast<T*>(a.data)), stride_(a.strides[0] / static_cast<std::int64_t>(sizeof(T))), rows_(a.sizes[0]), cols_(a.sizes[1]) {}
  int rows() const noexcept { return Rows == 1 ? 1 : rows_; }
  int cols() const noexcept { return Cols == 1 ? 1 : cols_; }
  // Elements from one row to the next.
  std::ptrdiff_t stride() const noexcept { return stride_; }
  T* row(int i) const noexcept { return data_ + i * stride_; }
  T& operator()(int i, int j) const noexcept { return data_[i * stride_ + j]; }

 private:
  T* data_;
  std::ptrdiff_t stride_;
  int rows_, cols_;
};

// A region of a tensor, of which any lengths may be 0.
template <class T, int Rank> class Region {
 public:
  using element = T;
  static constexpr int rank = Rank;

  explicit Region(const Argument& a) noexcept : data_(reinterpret_cast<T*>(a.data)) {
    for (int d = 0; d < Rank; ++d) {
      lengths_[d] = a.sizes[d];
      strides_[d] = a.strides[d] / static_cast<std::int64_t>(sizeof(T));
    }
  }
  int size(int d) const noexcept { return lengths_[d]; }
  // Elements from one index of dimension d to the next.
  std::ptrdiff_t stride(int d) const noexcept { return strides_[d]; }
  T* data() const noexcept { return data_; }
  template <class... Index> T& operator()(Index... index) const noexcept {
    static_assert(sizeof...(Index) == Rank, "a region takes one index for each dimension");
    std::ptrdiff_t at = 0;
    int d = 0;
    ((at += static_cast<std::ptrdiff_t>(index) * strides_[d++]), ...);
    return data_[at];
  }

 private:
  T* data_;
  std::ptrdiff_t strides_[Rank];
  int lengths_[Rank];
};

template <class T> T scalar_of(const Argument& a) noexcept {
  T x;
  std::memcpy(&x, a.scalar, sizeof x);
  return x;
}

// Runs `body`; 0, or 1 with what an exception says in `text` of `size` bytes.
template <class Body> int guarded(char* text, std::size_t size, Body body) noexcept {
  const auto tell = [&](const char* what) {
    const std::size_t n = std::strlen(what) < size ? std::strlen(what) : size - 1;
    std::memcpy(text, what, n);
    text[n] = '\0';
  };
  try {
    body();
    return 0;
  } catch (const std::exception& e) {
    const char* what = e.what();  // of a class of the user: may be null
    tell(what != nullptr ? what : "an exception that says nothing");
  } catch (...) {
    tell("something that is no std::exception");
  }
  return 1;
}

}  // namespace pto_wsp
