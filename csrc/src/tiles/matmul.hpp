#pragma once
// c[i, j] = acc[i, j] + sum over k of a[i, k] b[k, j], in two orders the flags choose between.
//
// chain: one fused multiply-add after the other, k ascending, from the accumulator. Blocks of `tile_rows` x 32 outputs stay in
// registers; k is cut into pieces of `piece_k`, between which the f32 partial sums lie in c itself (exact). b is packed into
// panels of 32 columns; a is copied where it is not f32, or where many columns make up for it (rows far apart share few cache
// sets, copies do not).
// Of i8 and u8 the pieces are sums of whole floats, exact as a piece has at most 256 products, and are added up in i32.
// dots (transpose_b alone, of floats): both operands lie along k; 16 accumulators, the tree, then the accumulator is added once.

#include "levels.hpp"
#include "math.hpp"
#include "types.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

// A matrix whose element (r, c) is at p + r * down + c * right bytes.
struct Matrix {
  const std::byte* p;
  std::ptrdiff_t down, right;
  PTO_WSP_INLINE const std::byte* at(std::ptrdiff_t r, std::ptrdiff_t c) const { return p + r * down + c * right; }
};

PTO_WSP_INLINE F repeat(const std::byte* p, F) { return F32::repeat(p); }
PTO_WSP_INLINE I repeat(const std::byte* p, I) { return I32::repeat(p); }
PTO_WSP_INLINE F load4(const std::byte* p, F) { return load_f32(p); }
PTO_WSP_INLINE I load4(const std::byte* p, I) { return load_i32(p); }
PTO_WSP_INLINE F load4(const std::byte* p, int n, F) { return load_f32(p, n); }
PTO_WSP_INLINE I load4(const std::byte* p, int n, I) { return load_i32(p, n); }
PTO_WSP_INLINE void store4(std::byte* p, F x) { store_f32(p, x); }
PTO_WSP_INLINE void store4(std::byte* p, I x) { store_i32(p, x); }
PTO_WSP_INLINE void store4(std::byte* p, F x, int n) { store_f32(p, x, n); }
PTO_WSP_INLINE void store4(std::byte* p, I x, int n) { store_i32(p, x, n); }

struct Block {
  Matrix a;                  // 4-byte elements
  const std::byte* b;        // rows of at least `vectors` * 16 elements, b_down bytes apart
  std::ptrdiff_t b_down;
  const std::byte* acc;      // nullptr: from +0
  std::ptrdiff_t acc_rs;
  std::byte* c;
  std::ptrdiff_t c_rs;
  int k, cols;
  std::ptrdiff_t ahead;      // 0, or how far after b the next product's lies (see OpArgs), which is fetched meanwhile
};

// Into the second cache: the few misses the first one can have open are those of what is read now.
PTO_WSP_INLINE void fetch(const std::byte* p, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}

PTO_WSP_INLINE std::ptrdiff_t distance_ahead(const OpArgs& call) { return call.ahead == nullptr ? 0 : call.ahead - call.src[1]; }

static_assert(piece_k * 255 * 255 < 1 << 24);
// How sums of V get into c: with `whole` they are integers, added to what acc has.
template <class V_, bool whole_> struct Sums {
  using V = V_;
  static constexpr bool whole = whole_;
};
template <class T> using SumsOf = Sums<typename T::V, T::size == 1>;

template <class S> PTO_WSP_INLINE void put_sums(const Block& t, int i, int v, typename S::V sum) {
  const int left = t.cols - 16 * v;
  std::byte* p = t.c + i * t.c_rs + 64 * v;
  if constexpr (S::whole) {
    const std::byte* from = t.acc + i * t.acc_rs + 64 * v;
    const I x = to_int(sum), n = t.acc == nullptr ? x : add(x, left >= 16 ? load_i32(from) : load_i32(from, left));
    if (left >= 16) store_i32(p, n);
    else store_i32(p, n, left);
  } else {
    if (left >= 16) store4(p, sum);
    else store4(p, sum, left);
  }
}

// `rows` x `vectors` * 16 outputs, of which `cols` columns exist.
template <class S, int rows, int vectors, bool ahead = false> void block(const Block& t) {
  using V = typename S::V;
  V sum[rows][vectors];
  for (int i = 0; i < rows; ++i)
    for (int v = 0; v < vectors; ++v) {
      const int left = t.cols - 16 * v;
      if (S::whole || t.acc == nullptr) {
        sum[i][v] = V{};
      } else {
        const std::byte* p = t.acc + i * t.acc_rs + 64 * v;
        sum[i][v] = left >= 16 ? load4(p, V{}) : load4(p, left, V{});
      }
    }
  const std::byte* b = t.b;
  // Three rows from one pointer, which is what an address can say: a pointer for each row would not fit the registers.
  constexpr int pointers = (rows + 2) / 3;
  const std::byte* a[pointers];
#pragma GCC unroll 8
  for (int p = 0; p < pointers; ++p) a[p] = t.a.p + 3 * p * t.a.down;
  for (int k = 0; k < t.k; ++k) {
    if constexpr (ahead) fetch(b + t.ahead, 64 * vectors);
    V column[vectors];
    for (int v = 0; v < vectors; ++v) column[v] = load4(b + 64 * v, V{});
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const V x = repeat(a[i / 3] + i % 3 * t.a.down, V{});
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(x, column[v], sum[i][v]);
    }
    b += t.b_down;
#pragma GCC unroll 8
    for (int p = 0; p < pointers; ++p) {
      a[p] += t.a.right;
      asm("" : "+r"(a[p]));  // not one of the others and a distance
    }
  }
  for (int i = 0; i < rows; ++i)
    for (int v = 0; v < vectors; ++v) put_sums<S>(t, i, v, sum[i][v]);
}

template <class S, int rows> PTO_WSP_INLINE void block_of(const Block& t) {
  if (t.cols > 16) block<S, rows, 2>(t);
  else block<S, rows, 1>(t);
}

// One or two rows of a: b is read once, in rows as long as registers allow, so that it comes from memory in one stream.
template <class S> void wide_rows(const Block& t, int rows) {
  if (t.ahead == 0) return rows == 1 ? block<S, 1, wide_vectors>(t) : block<S, 2, wide_vectors>(t);
  return rows == 1 ? block<S, 1, wide_vectors, true>(t) : block<S, 2, wide_vectors, true>(t);
}

template <class S> void block_rows(const Block& t, int rows) {
  static_assert(tile_rows <= 12);
  switch (rows) {
    case 1: return block_of<S, 1>(t);
    case 2: return block_of<S, 2>(t);
    case 3: return block_of<S, 3>(t);
    case 4: return block_of<S, 4>(t);
    default: break;
  }
  if constexpr (tile_rows > 4) {
    switch (rows) {
      case 5: return block_of<S, 5>(t);
      case 6: return block_of<S, 6>(t);
      case 7: return block_of<S, 7>(t);
      case 8: return block_of<S, 8>(t);
      case 9: return block_of<S, 9>(t);
      case 10: return block_of<S, 10>(t);
      case 11: return block_of<S, 11>(t);
      default: return block_of<S, 12>(t);
    }
  }
}

// `count` elements from p on, `stride` bytes apart, widened to four bytes each; as many zeros as make `width`.
template <class T> PTO_WSP_INLINE void widen_row(std::byte* out, const std::byte* p, std::ptrdiff_t stride, int count, int width) {
  using V = typename T::V;
  if (stride == T::size) {
    int i = 0;
    for (; i + 16 <= count; i += 16) store4(out + 4 * i, T::load(p + i * T::size));
    if (i < count) store4(out + 4 * i, T::load(p + i * T::size, count - i), width - i < 16 ? width - i : 16);
  } else {
    for (int i = 0; i < count; ++i) store4(out + 4 * i, T::repeat(p + i * stride), 1);
  }
  const int zero_from = stride == T::size ? (count + 15) / 16 * 16 : count;
  for (int i = zero_from; i < width; ++i) store4(out + 4 * i, V{}, 1);
}

// 16 x 16 elements whose rows are contiguous, turned: out[c][r] = in[r][c], out's rows `width` elements apart.
template <class T> void turn(std::byte* out, int width, const Matrix& in, int rows, int cols) {
  std::byte line[16][64];
  for (int r = 0; r < rows; ++r) {
    if (cols == 16) store4(line[r], T::load(in.at(r, 0)));
    else store4(line[r], T::load(in.at(r, 0), cols));
  }
  for (int c = 0; c < cols; ++c) {
    std::byte* to = out + std::ptrdiff_t{4} * c * width;
    for (int r = 0; r < rows; ++r) std::memcpy(to + 4 * r, line[r] + 4 * c, 4);
  }
}

// Element (k, i) of a panel is in(i, k): panels of `width` rows of `in`, each [depth][width], rows that do not exist are zeros.
template <class T> void pack(std::byte* out, int width, const Matrix& in, int rows, int depth) {
  if (in.right != T::size || in.down == T::size) {
    // Along what lies side by side in memory: all panels grow together.
    for (int k = 0; k < depth; ++k)
      for (int r = 0; r < rows; r += width)
        widen_row<T>(out + std::ptrdiff_t{4} * (std::ptrdiff_t{r} * depth + k * width), in.at(r, k), in.down, rows - r < width ? rows - r : width, width);
    return;
  }
  for (int r = 0; r < rows; r += width, out += std::ptrdiff_t{4} * width * depth) {
    const int count = rows - r < width ? rows - r : width;
    for (int k = 0; k < depth && count < width; ++k)
      for (int i = count; i < width; ++i) std::memset(out + std::ptrdiff_t{4} * (k * width + i), 0, 4);
    for (int k = 0; k < depth; k += 16)
      for (int i = 0; i < count; i += 16)
        turn<T>(out + std::ptrdiff_t{4} * (k * width + i), width, Matrix{in.at(r + i, k), in.down, in.right},
                count - i < 16 ? count - i : 16, depth - k < 16 ? depth - k : 16);
  }
}

PTO_WSP_INLINE int least(int a, int b) { return a < b ? a : b; }

// rows x depth elements of a, widened, in the direction they have; each line a little longer than needed.
template <class T> Matrix copy_lines(std::byte* out, const Matrix& in, int rows, int depth) {
  const bool along_k = in.right == T::size;
  const int lines = along_k ? rows : depth, length = along_k ? depth : rows;
  const std::ptrdiff_t stride = 4 * (std::ptrdiff_t{length} + line_gap);
  for (int i = 0; i < lines; ++i) widen_row<T>(out + i * stride, along_k ? in.at(i, 0) : in.at(0, i), T::size, length, length);
  return along_k ? Matrix{out, stride, 4} : Matrix{out, 4, stride};
}

// One piece: c[0:m, 0:n] over k, with b packed when `packed_b` is set.
template <class T> void chain_piece(const OpArgs& call, const Matrix& a, const Matrix& b, const std::byte* acc, std::ptrdiff_t acc_rs,
                                    std::byte* c, int m, int n, int k) {
  using S = SumsOf<T>;
  std::byte* packed_b = call.work;
  std::byte* packed_a = call.work + std::ptrdiff_t{4} * ((least(call.cols, piece_n) + panel - 1) / panel * panel) * least(call.inner, piece_k);
  // b as it is: rows that hold whole panels, read by few rows of a.
  const bool direct_b = T::size == 4 && b.right == 4 && m <= 2 * tile_rows;
  const int whole = direct_b ? n / panel * panel : 0;
  const Matrix columns = {b.p + whole * b.right, b.right, b.down};
  if (whole < n) pack<T>(packed_b, panel, columns, n - whole, k);
  const bool direct_a = T::size == 4 && (a.right == 4 ? n <= 8 * panel : n <= panel);

  for (int i0 = 0; i0 < m; i0 += piece_m) {
    const int rows = least(piece_m, m - i0);
    const Matrix piece = {a.at(i0, 0), a.down, a.right};
    const Matrix lines = direct_a ? piece : copy_lines<T>(packed_a, piece, rows, k);
    const int step = 16 * wide_vectors;
    int j = 0;
    for (; rows <= 2 && j + step <= whole; j += step) {
      const Block t = {{lines.p, lines.down, lines.right}, b.at(0, j), b.down, acc == nullptr ? nullptr : acc + i0 * acc_rs + 4 * j, acc_rs,
                       c + i0 * call.dst_rs + 4 * j, call.dst_rs, k, step, distance_ahead(call)};
      wide_rows<S>(t, rows);
    }
    for (; j < n; j += panel) {
      Block t = {};
      t.b = j < whole ? b.at(0, j) : packed_b + std::ptrdiff_t{4} * (j - whole) * k;
      t.b_down = j < whole ? b.down : 4 * panel;
      t.acc_rs = acc_rs;
      t.c_rs = call.dst_rs;
      t.k = k;
      t.cols = least(panel, n - j);
      for (int i = 0; i < rows; i += tile_rows) {
        t.a = {lines.at(i, 0), lines.down, lines.right};
        t.acc = acc == nullptr ? nullptr : acc + (i0 + i) * acc_rs + 4 * j;
        t.c = c + (i0 + i) * call.dst_rs + 4 * j;
        block_rows<S>(t, least(tile_rows, rows - i));
      }
    }
  }
}

template <class T> void chain(const OpArgs& call, const Matrix& a, const Matrix& b, const std::byte* acc) {
  for (int j = 0; j < call.cols; j += piece_n)
    for (int k = 0; k < call.inner; k += piece_k) {
      const bool first = k == 0;
      std::byte* c = call.dst + 4 * std::ptrdiff_t{j};
      const std::byte* from = !first ? c : acc == nullptr ? nullptr : acc + 4 * std::ptrdiff_t{j};
      chain_piece<T>(call, Matrix{a.at(0, k), a.down, a.right}, Matrix{b.at(k, j), b.down, b.right}, from,
                     first ? call.src_rs[2] : call.dst_rs, c, call.rows, least(piece_n, call.cols - j), least(piece_k, call.inner - k));
    }
}

// rows x cols dot products along k.
template <class T, int rows, int cols> PTO_WSP_INLINE void dot_block(const Matrix& a, const Matrix& b, int depth, F (&sum)[16]) {
  F s[rows][cols];
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < cols; ++j) s[i][j] = F{};
  int k = 0;
  for (; k + 16 <= depth; k += 16) {
    F y[cols];
#pragma GCC unroll 4
    for (int j = 0; j < cols; ++j) y[j] = T::load(b.p + j * b.down + k * T::size);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const F x = T::load(a.p + i * a.down + k * T::size);
#pragma GCC unroll 4
      for (int j = 0; j < cols; ++j) s[i][j] = fma(x, y[j], s[i][j]);
    }
  }
  if (k < depth) {  // lanes past the end keep their sums, a -0 from a product that underflowed included
    const M exist = first_lanes(depth - k);
    F y[cols];
#pragma GCC unroll 4
    for (int j = 0; j < cols; ++j) y[j] = T::load(b.p + j * b.down + k * T::size, depth - k);
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const F x = T::load(a.p + i * a.down + k * T::size, depth - k);
#pragma GCC unroll 4
      for (int j = 0; j < cols; ++j) s[i][j] = select(exist, fma(x, y[j], s[i][j]), s[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < cols; ++j) sum[4 * i + j] = s[i][j];
}

PTO_WSP_INLINE Matrix below(const Matrix& m, int rows) { return {m.p + rows * m.down, m.down, m.right}; }

template <class T> PTO_WSP_INLINE void sixteen_dots(const Matrix& a, const Matrix& b, int depth, F (&sum)[16]) {
  if constexpr (dots_by_four) {
    dot_block<T, 4, 4>(a, b, depth, sum);
  } else {
    for (int i = 0; i < 4; i += 2)
      for (int j = 0; j < 4; j += 2) {
        F part[16];
        dot_block<T, 2, 2>(below(a, i), below(b, j), depth, part);
        for (int x = 0; x < 2; ++x)
          for (int y = 0; y < 2; ++y) sum[4 * (i + x) + j + y] = part[4 * x + y];
      }
  }
}

// As many as there are, at an edge: rows or cols below 4.
template <class T> void fewer_dots(const Matrix& a, const Matrix& b, int depth, F (&sum)[16], int rows, int cols) {
  for (F& s : sum) s = F{};
  for (int i = 0; i < rows; ++i) {
    F part[16];
    if (cols == 4) {
      dot_block<T, 1, 4>(below(a, i), b, depth, part);
      for (int j = 0; j < 4; ++j) sum[4 * i + j] = part[j];
      continue;
    }
    for (int j = 0; j < cols; ++j) {
      dot_block<T, 1, 1>(below(a, i), below(b, j), depth, part);
      sum[4 * i + j] = part[0];
    }
  }
}

// `rows` x `cols` outputs from (i, j) on, whose sums are line after line of `width`.
PTO_WSP_INLINE void put_dots(const OpArgs& call, const std::byte* acc, F (&sum)[16], int i, int j, int rows, int cols, int width) {
  alignas(64) std::byte trees[64];
  store_f32(trees, tree_sums(sum));
  const std::ptrdiff_t column = 4 * std::ptrdiff_t{j};
  for (int r = 0; r < rows; ++r) {
    std::byte* d = call.dst + (i + r) * call.dst_rs + column;
    const F s = load_f32(trees + 4 * r * width, cols);
    store_f32(d, acc == nullptr ? s : add(s, load_f32(acc + (i + r) * call.src_rs[2] + column, cols)), cols);
  }
}

// Up to 4 x 4 outputs.
template <class T> void dots_tile(const OpArgs& call, const std::byte* acc, int i0, int j0, int rows, int cols) {
  const Matrix a = {call.src[0] + i0 * call.src_rs[0], call.src_rs[0], T::size};
  const Matrix b = {call.src[1] + j0 * call.src_rs[1], call.src_rs[1], T::size};
  F sum[16];
  if (rows == 4 && cols == 4) sixteen_dots<T>(a, b, call.inner, sum);
  else fewer_dots<T>(a, b, call.inner, sum, rows, cols);
  put_dots(call, acc, sum, i0, j0, rows, cols, 4);
}

// Up to 16 outputs of row i.
template <class T> void dots_row(const OpArgs& call, const std::byte* acc, int i, int j0, int cols) {
  const Matrix a = {call.src[0] + i * call.src_rs[0], call.src_rs[0], T::size};
  const std::ptrdiff_t ahead = i == 0 ? distance_ahead(call) : 0;
  F sum[16];
  for (int j = 0; j < 16; j += 4) {
    const Matrix b = {call.src[1] + (j0 + j) * call.src_rs[1], call.src_rs[1], T::size};
    for (int r = 0; ahead != 0 && r < least(4, cols - j); ++r) fetch(b.p + r * b.down + ahead, call.inner * T::size);
    F part[16];
    fewer_dots<T>(a, b, call.inner, part, cols > j ? 1 : 0, least(4, cols - j));
    for (int x = 0; x < 4; ++x) sum[j + x] = part[x];
  }
  put_dots(call, acc, sum, i, j0, 1, cols, 16);
}

template <class T> void dots(const OpArgs& call, const std::byte* acc) {
  // A few rows of b at a time, so that they stay in the second cache while all rows of a pass.
  const int fits = 262144 / (call.inner * T::size) / 4 * 4;
  const int stripe = fits < 4 ? 4 : fits;
  for (int j0 = 0; j0 < call.cols; j0 += stripe) {
    const int end = least(call.cols, j0 + stripe);
    if (call.rows <= 2) {
      for (int i = 0; i < call.rows; ++i)
        for (int j = j0; j < end; j += 16) dots_row<T>(call, acc, i, j, least(16, end - j));
      continue;
    }
    for (int i = 0; i < call.rows; i += 4)
      for (int j = j0; j < end; j += 4) dots_tile<T>(call, acc, i, j, least(4, call.rows - i), least(4, end - j));
  }
}

template <class T> void matmul(const OpArgs& call) {
  const bool transpose_a = (call.imm & 1) != 0, transpose_b = (call.imm & 2) != 0;
  const std::byte* acc = (call.imm & 4) != 0 ? call.src[2] : nullptr;
  if constexpr (T::is_float) {
    if (transpose_b && !transpose_a) return dots<T>(call, acc);
  }
  const Matrix a = {call.src[0], transpose_a ? T::size : call.src_rs[0], transpose_a ? call.src_rs[0] : T::size};
  const Matrix b = {call.src[1], transpose_b ? T::size : call.src_rs[1], transpose_b ? call.src_rs[1] : T::size};
  chain<T>(call, a, b, acc);
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
