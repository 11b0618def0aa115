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

inline void interpret(const builder::KernelBuilder& k, std::vector<Tensor>& tensors, const std::vector<double>& scalars) {
  using namespace builder;
  struct Whole {
    int rows, cols;  // valid
    std::vector<std::byte> data;
    std::ptrdiff_t stride;
  };
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
    Whole out = {size_of_dim(type.valid_rows), size_of_dim(type.valid_cols), std::vector<std::byte>(static_cast<std::size_t>(size * type.rows * type.cols)), size * type.cols};
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
