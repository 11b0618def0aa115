// Runs a kernel as it is written: one instruction after the other, every value whole, in memory of its own. What strips, aliases
// and stores made early must not differ from.
#pragma once

#include <algorithm>
#include <map>

#include "kernel_builder.hpp"
#include "tile_reference.hpp"

namespace reference {

// An argument's elements in memory of their own, laid out as the test likes.
struct Tensor {
  pto_wsp::DType dtype = pto_wsp::DType::f32;
  int rows = 1, cols = 1;  // valid
  std::int64_t row_stride = 0, col_stride = 0;
  std::size_t origin = 0;
  std::vector<std::byte> memory;

  std::byte* at(int r, int c) { return memory.data() + static_cast<std::ptrdiff_t>(origin) + r * row_stride + c * col_stride; }
  pto_wsp::Arg arg() {
    pto_wsp::Arg a;
    a.tile = {at(0, 0), row_stride, col_stride, rows, cols, nullptr, nullptr};
    return a;
  }
};

// layout 0: dense; 1: gaps between rows; 2: rows upwards; 3: every second column; 4: columns backwards; 5: transposed.
inline Tensor tensor(pto_wsp::DType t, int rows, int cols, int layout) {
  Tensor x;
  x.dtype = t;
  x.rows = rows;
  x.cols = cols;
  const auto size = static_cast<std::int64_t>(pto_wsp::size_of(t));
  x.col_stride = layout == 3 ? 2 * size : layout == 4 ? -size : layout == 5 ? size * rows : size;
  x.row_stride = layout == 5 ? size : std::abs(x.col_stride) * cols + (layout == 1 ? 3 * size : 0);
  const std::int64_t height = x.row_stride * (rows - 1), width = x.col_stride * (cols - 1);
  x.origin = 64;
  if (layout == 2) {
    x.row_stride = -x.row_stride;
    x.origin += static_cast<std::size_t>(height);
  }
  if (width < 0) x.origin += static_cast<std::size_t>(-width);
  x.memory.assign(static_cast<std::size_t>(height + std::abs(width) + size) + 128, std::byte{0xc3});
  return x;
}

// A value, all of it.
struct Whole {
  int rows, cols;  // valid
  std::vector<std::byte> data;
  std::ptrdiff_t stride;
  builder::ValueType type;

  std::byte* at(int r, int c) { return data.data() + r * stride + c * static_cast<std::ptrdiff_t>(pto_wsp::size_of(type.dtype)); }
  double get(int r, int c) { return decode(at(r, c), type.dtype); }
  // One row or column stands for all.
  double repeated(int r, int c) { return get(type.rows == 1 ? 0 : r, type.cols == 1 ? 0 : c); }
};

// Columns of row r in the order of topk, by sorting all.
inline std::vector<int> ranking(Whole& x, int r, bool smallest_first) {
  std::vector<int> order(static_cast<std::size_t>(x.cols));
  for (int c = 0; c < x.cols; ++c) order[static_cast<std::size_t>(c)] = c;
  std::stable_sort(order.begin(), order.end(), [&](int i, int j) {
    const double a = x.get(r, i), b = x.get(r, j);
    if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
    return smallest_first ? a < b : a > b;
  });
  return order;
}

// What the operations that move and order elements mean, an element at a time.
inline void rearrange(const builder::Instruction& i, Whole& out, const std::vector<Whole*>& src) {
  const auto put = [&](int r, int c, double x) { encode(x, out.type.dtype, out.at(r, c)); };
  const auto each = [&](auto element) {
    for (int r = 0; r < out.rows; ++r)
      for (int c = 0; c < out.cols; ++c) put(r, c, element(r, c));
  };
  Whole& x = *src[0];
  const bool along = !i.imm.empty() && i.imm[0] == 1;
  const DType t = x.type.dtype;
  switch (i.op) {
    case Op::slice: return each([&](int r, int c) { return x.get(i.imm[0] + r, i.imm[1] + c * i.imm[2]); });
    case Op::concat:
      return each([&](int r, int c) {
        const int n = along ? x.type.cols : x.type.rows, at = along ? c : r;
        return at < n ? x.get(r, c) : src[1]->get(along ? r : r - n, along ? c - n : c);
      });
    case Op::transpose: return each([&](int r, int c) { return x.get(c, r); });
    case Op::reshape: return each([&](int r, int c) { const int n = r * out.type.cols + c; return x.get(n / x.type.cols, n % x.type.cols); });
    case Op::interleave: return each([&](int r, int c) { return src[static_cast<std::size_t>(c % 2)]->get(r, c / 2); });
    case Op::gather:
      return each([&](int r, int c) {
        const double n = src[1]->repeated(r, c);
        if (n < 0 || n >= (along ? x.cols : x.rows)) return 0.0;
        return along ? x.repeated(r, static_cast<int>(n)) : x.get(static_cast<int>(n), x.type.cols == 1 ? 0 : c);
      });
    case Op::scatter:
      each([&](int r, int c) { return x.get(r, c); });
      for (int r = 0; r < std::min(along ? out.rows : src[1]->rows, src[2]->rows); ++r)
        for (int c = 0; c < std::min(along ? src[1]->cols : out.cols, src[2]->cols); ++c) {
          const double n = src[1]->repeated(r, c);
          if (n < 0 || n >= (along ? out.cols : out.rows)) continue;
          put(along ? r : static_cast<int>(n), along ? static_cast<int>(n) : c, src[2]->get(r, c));
        }
      return;
    case Op::cumsum:
      for (int line = 0; line < (along ? out.rows : out.cols); ++line) {
        double sum = 0;
        for (int j = 0; j < (along ? out.cols : out.rows); ++j) {
          const int r = along ? line : j, c = along ? j : line;
          sum = binary(Op::add, sum, x.get(r, c), t);
          put(r, c, is_float(t) ? rounded(sum, t) : sum);
        }
      }
      return;
    case Op::bincount:
      return each([&](int, int c) {
        int n = 0;
        for (int r = 0; r < x.rows; ++r)
          for (int k = 0; k < x.cols; ++k) n += x.get(r, k) == c ? 1 : 0;
        return static_cast<double>(n);
      });
    case Op::rowargmax: return each([&](int r, int) { return static_cast<double>(ranking(x, r, false)[0]); });
    case Op::rowargmin: return each([&](int r, int) { return static_cast<double>(ranking(x, r, true)[0]); });
    case Op::extract_topk_indices:
      for (int r = 0; r < out.rows; ++r) {
        const std::vector<int> order = ranking(x, r, false);
        for (int c = 0; c < out.cols; ++c) put(r, c, c < x.cols ? order[static_cast<std::size_t>(c)] : -1);
      }
      return;
    default:  // topk_values
      return each([&](int r, int c) {
        const double n = src[1]->get(r, c), lowest = t == DType::i32 ? INT32_MIN : -std::numeric_limits<double>::infinity();
        return n < 0 || n >= x.cols ? lowest : x.get(r, static_cast<int>(n));
      });
  }
}

// A number as a scalar argument has it.
inline std::uint64_t scalar_bits(double x, DType dtype) {
  return pto_wsp::is_float(dtype) ? std::bit_cast<std::uint64_t>(x) : static_cast<std::uint64_t>(static_cast<std::int64_t>(x));
}

inline void interpret(const builder::KernelBuilder& k, std::vector<Tensor>& tensors, const std::vector<double>& scalars) {
  using namespace builder;
  std::map<int, Whole> values;
  const auto size_of_dim = [&](const Dim& d) {
    if (d.kind == 0) return static_cast<int>(d.number);
    const Tensor& t = tensors[d.number];
    return d.kind == 1 ? t.rows : t.cols;
  };
  for (const Instruction& i : k.instrs) {
    if (i.op == Op::store) {
      Tensor& to = tensors[static_cast<std::size_t>(i.src[0].index)];
      const Whole& v = values.at(i.src[1].index);
      const auto size = pto_wsp::size_of(to.dtype);
      for (int r = 0; r < to.rows; ++r)
        for (int c = 0; c < to.cols; ++c) std::memcpy(to.at(r, c), v.data.data() + r * v.stride + c * static_cast<std::ptrdiff_t>(size), size);
      continue;
    }
    const ValueType& type = k.values[static_cast<std::size_t>(i.dst)];
    const auto size = static_cast<std::ptrdiff_t>(pto_wsp::size_of(type.dtype));
    Whole out = {size_of_dim(type.valid_rows), size_of_dim(type.valid_cols), std::vector<std::byte>(static_cast<std::size_t>(size * type.rows * type.cols)), size * type.cols, type};
    pto_wsp::OpArgs a = {};
    a.dst = out.data.data();
    a.dst_rs = out.stride;
    a.rows = out.rows;
    a.cols = out.cols;
    std::vector<std::byte> constants(64), work;
    if (i.op == Op::load) {
      Tensor& from = tensors[static_cast<std::size_t>(i.src[0].index)];
      for (int r = 0; r < out.rows; ++r)
        for (int c = 0; c < out.cols; ++c) encode(decode(from.at(r, c), from.dtype), from.dtype, out.data.data() + r * out.stride + c * size);
    } else if (i.op >= Op::slice) {
      std::vector<Whole*> sources;
      for (const Src& s : i.src) sources.push_back(&values.at(s.index));
      rearrange(i, out, sources);
    } else {
      DType operand = type.dtype;
      const bool compare = i.op >= Op::eq && i.op <= Op::ge;
      for (std::size_t s = i.src.size(); s-- > 0;)
        if (i.src[s].kind == 0 && (compare || i.op == Op::cast || i.op == Op::matmul || i.op >= Op::rowsum)) operand = k.values[static_cast<std::size_t>(i.src[s].index)].dtype;
      for (std::size_t s = 0; s < i.src.size(); ++s) {
        const Src& src = i.src[s];
        if (src.kind == 0) {
          const ValueType& from = k.values[static_cast<std::size_t>(src.index)];
          Whole& v = values.at(src.index);
          a.src[s] = v.data.data();
          a.src_rs[s] = from.rows == 1 && type.rows > 1 && i.op != Op::matmul ? 0 : v.stride;
          if (from.cols == 1 && type.cols > 1 && i.op != Op::matmul) a.bcast = static_cast<std::uint8_t>(a.bcast | (1u << s));
          if (i.op >= Op::colsum) a.inner = v.rows;
          else if (i.op >= Op::rowsum) a.inner = v.cols;
          if (i.op == Op::matmul && s == 0) a.inner = i.imm[0] != 0 ? v.rows : v.cols;
          if (i.op == Op::matmul && s == 1) a.inner = std::min(a.inner, i.imm[1] != 0 ? v.cols : v.rows);
        } else {
          std::byte* at = constants.data() + 8 * s;
          encode(src.kind == 1 ? src.literal : scalars[static_cast<std::size_t>(src.index)], operand, at);
          a.src[s] = at;
          if (type.cols > 1) a.bcast = static_cast<std::uint8_t>(a.bcast | (1u << s));
        }
      }
      if (i.op == Op::iota) a.imm = static_cast<std::uint8_t>(i.imm[0]);
      if (i.op == Op::matmul) {
        a.imm = static_cast<std::uint8_t>(i.imm[0] | (i.imm[1] << 1) | (i.src.size() == 3 ? 4 : 0));
        work.resize(pto_wsp::matmul_work_bytes(out.rows, out.cols, a.inner) + 64);
        a.work = work.data() + (64 - reinterpret_cast<std::uintptr_t>(work.data()) % 64);
      }
      pto_wsp::find_op(pto_wsp::Isa::portable, i.op, operand, type.dtype)(a);
    }
    values[i.dst] = std::move(out);
  }
}

}  // namespace reference
