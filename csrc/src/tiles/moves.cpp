// Operations that move elements and compute nothing: one portable form for all levels.

#include <cstring>

#include "levels.hpp"

namespace pto_wsp::tiles {
namespace {

template <int size> void move_element(std::byte* to, const std::byte* from) noexcept { std::memcpy(to, from, size); }

// The function of the family `Of<size>` for elements of this type.
template <template <int> class Of> OpFn by_size(DType t) noexcept {
  switch (size_of(t)) {
    case 1: return Of<1>::run;
    case 2: return Of<2>::run;
    case 4: return Of<4>::run;
    default: return Of<8>::run;
  }
}

template <int size> struct Slice {
  static void run(const OpArgs& a) {
    const std::ptrdiff_t step = a.at[2] * std::ptrdiff_t{size};
    for (std::int32_t r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      const std::byte* s = a.src[0] + (r + a.at[0]) * a.src_rs[0] + a.at[1] * std::ptrdiff_t{size};
      if (a.at[2] == 1) std::memcpy(d, s, static_cast<std::size_t>(a.cols) * size);
      else
        for (std::int32_t c = 0; c < a.cols; ++c) move_element<size>(d + c * std::ptrdiff_t{size}, s + c * step);
    }
  }
};

template <int size> struct Concat {
  static void run(const OpArgs& a) {
    const auto bytes = [](std::int32_t n) { return static_cast<std::size_t>(n) * size; };
    const std::int32_t first = a.imm == 1 && a.cols < a.inner ? a.cols : a.inner;
    for (std::int32_t r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      if (a.imm == 0) {
        const int i = r < a.inner ? 0 : 1;
        std::memcpy(d, a.src[i] + (r - i * a.inner) * a.src_rs[i], bytes(a.cols));
      } else {
        std::memcpy(d, a.src[0] + r * a.src_rs[0], bytes(first));
        std::memcpy(d + bytes(first), a.src[1] + r * a.src_rs[1], bytes(a.cols - first));
      }
    }
  }
};

// Blocks of both sides that stay in the nearest cache.
template <int size> struct Transpose {
  static void run(const OpArgs& a) {
    constexpr std::int32_t block = 16;
    for (std::int32_t r0 = 0; r0 < a.rows; r0 += block)
      for (std::int32_t c0 = 0; c0 < a.cols; c0 += block) {
        const std::int32_t r1 = a.rows - r0 < block ? a.rows : r0 + block, c1 = a.cols - c0 < block ? a.cols : c0 + block;
        for (std::int32_t r = r0; r < r1; ++r) {
          std::byte* d = a.dst + r * a.dst_rs;
          const std::byte* s = a.src[0] + r * std::ptrdiff_t{size};
          for (std::int32_t c = c0; c < c1; ++c) move_element<size>(d + c * std::ptrdiff_t{size}, s + c * a.src_rs[0]);
        }
      }
  }
};

template <int size> struct Reshape {
  static void run(const OpArgs& a) {
    std::int32_t row = 0, col = 0;  // of the source
    for (std::int32_t r = 0; r < a.rows; ++r)
      for (std::int32_t done = 0; done < a.cols;) {
        const std::int32_t left = a.inner - col, n = a.cols - done < left ? a.cols - done : left;
        std::memcpy(a.dst + r * a.dst_rs + done * std::ptrdiff_t{size}, a.src[0] + row * a.src_rs[0] + col * std::ptrdiff_t{size}, static_cast<std::size_t>(n) * size);
        done += n;
        col += n;
        if (col == a.inner) {
          col = 0;
          ++row;
        }
      }
  }
};

template <int size> struct Interleave {
  static void run(const OpArgs& a) {
    for (std::int32_t r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      const std::byte* even = a.src[0] + r * a.src_rs[0];
      const std::byte* odd = a.src[1] + r * a.src_rs[1];
      for (std::int32_t c = 0; c < a.cols; ++c) move_element<size>(d + c * std::ptrdiff_t{size}, (c % 2 == 0 ? even : odd) + c / 2 * std::ptrdiff_t{size});
    }
  }
};

std::int32_t index_at(const std::byte* p) noexcept {
  std::int32_t i = 0;
  std::memcpy(&i, p, 4);
  return i;
}

bool inside(const OpArgs& a, std::int32_t index) noexcept {
  if (index >= 0 && index < a.inner) [[likely]] return true;
  if (a.fault->origin < 0) *a.fault = {a.origin, FaultKind::index, index, a.inner};
  return false;
}

template <int size> struct Gather {
  static void run(const OpArgs& a) {
    const std::ptrdiff_t along = (a.bcast & 1) != 0 ? 0 : size, next_index = (a.bcast & 2) != 0 ? 0 : 4;
    for (std::int32_t r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      const std::byte* index = a.src[1] + r * a.src_rs[1];
      if (a.imm == 0 && next_index == 0 && along != 0) {  // a row as it is
        const std::int32_t i = index_at(index);
        if (inside(a, i)) std::memcpy(d, a.src[0] + i * a.src_rs[0], static_cast<std::size_t>(a.cols) * size);
        else std::memset(d, 0, static_cast<std::size_t>(a.cols) * size);
        continue;
      }
      for (std::int32_t c = 0; c < a.cols; ++c, d += size, index += next_index) {
        const std::int32_t i = index_at(index);
        if (!inside(a, i)) std::memset(d, 0, size);
        else move_element<size>(d, a.imm == 0 ? a.src[0] + i * a.src_rs[0] + c * along : a.src[0] + r * a.src_rs[0] + i * std::ptrdiff_t{size});
      }
    }
  }
};

// Sources: the tile to write into, indices, elements. In the order of the elements' rows, so the last of equal indices stays.
template <int size> struct Scatter {
  static void run(const OpArgs& a) {
    if (a.dst != a.src[0])
      for (std::int32_t r = 0; r < a.rows; ++r) std::memmove(a.dst + r * a.dst_rs, a.src[0] + r * a.src_rs[0], static_cast<std::size_t>(a.cols) * size);
    const std::ptrdiff_t next_index = (a.bcast & 2) != 0 ? 0 : 4;
    const std::int32_t rows = a.imm == 0 ? a.outer : a.rows, cols = a.imm == 0 ? a.cols : a.outer;
    for (std::int32_t r = 0; r < rows; ++r) {
      const std::byte* index = a.src[1] + r * a.src_rs[1];
      const std::byte* s = a.src[2] + r * a.src_rs[2];
      if (a.imm == 0 && next_index == 0) {
        const std::int32_t i = index_at(index);
        if (inside(a, i)) std::memcpy(a.dst + i * a.dst_rs, s, static_cast<std::size_t>(cols) * size);
        continue;
      }
      for (std::int32_t c = 0; c < cols; ++c, s += size, index += next_index) {
        const std::int32_t i = index_at(index);
        if (inside(a, i)) move_element<size>(a.imm == 0 ? a.dst + i * a.dst_rs + c * std::ptrdiff_t{size} : a.dst + r * a.dst_rs + i * std::ptrdiff_t{size}, s);
      }
    }
  }
};

// Sources: the tile, the one element that stands beside what is valid of it.
template <int size> struct FillPad {
  static void run(const OpArgs& a) {
    for (std::int32_t r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      const std::int32_t valid = r < a.outer ? a.inner : 0;
      if (valid > 0) std::memcpy(d, a.src[0] + r * a.src_rs[0], static_cast<std::size_t>(valid) * size);
      for (std::int32_t c = valid; c < a.cols; ++c) move_element<size>(d + c * std::ptrdiff_t{size}, a.src[1]);
    }
  }
};

void bincount(const OpArgs& a) {
  std::memset(a.dst, 0, static_cast<std::size_t>(a.cols) * 4);
  OpArgs checked = a;
  checked.inner = a.cols;
  for (std::int32_t r = 0; r < a.outer; ++r)
    for (std::int32_t c = 0; c < a.inner; ++c) {
      const std::int32_t i = index_at(a.src[0] + r * a.src_rs[0] + c * std::ptrdiff_t{4});
      if (!inside(checked, i)) continue;
      const std::int32_t n = index_at(a.dst + i * std::ptrdiff_t{4}) + 1;  // a tile has fewer than 2^31 elements
      std::memcpy(a.dst + i * std::ptrdiff_t{4}, &n, 4);
    }
}

}  // namespace

OpFn find_move(Op op, DType src, DType dst) noexcept {
  if (src != dst) return nullptr;
  switch (op) {
    case Op::slice: return by_size<Slice>(src);
    case Op::concat: return by_size<Concat>(src);
    case Op::transpose: return by_size<Transpose>(src);
    case Op::reshape: return by_size<Reshape>(src);
    case Op::interleave: return by_size<Interleave>(src);
    case Op::gather: return by_size<Gather>(src);
    case Op::scatter: return by_size<Scatter>(src);
    case Op::fill_pad: return by_size<FillPad>(src);
    case Op::bincount: return src == DType::i32 ? bincount : nullptr;
    default: return nullptr;
  }
}

}  // namespace pto_wsp::tiles
