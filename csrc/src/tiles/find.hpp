#pragma once
// The table of one level: which function carries out an operation on given types.

#include "elementwise.hpp"
#include "matmul.hpp"
#include "reduce.hpp"
#include "scan.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

template <class Fn> OpFn float_map1(DType t) {
  switch (t) {
    case DType::f32: return map1<F32, F32, Fn>;
    case DType::f16: return map1<F16, F16, Fn>;
    case DType::bf16: return map1<BF16, BF16, Fn>;
    default: return nullptr;
  }
}
template <class Fn> OpFn float_map2(DType t) {
  switch (t) {
    case DType::f32: return map2<F32, F32, Fn>;
    case DType::f16: return map2<F16, F16, Fn>;
    case DType::bf16: return map2<BF16, BF16, Fn>;
    default: return nullptr;
  }
}
template <class Fn> OpFn number_map2(DType t) { return t == DType::i32 ? map2<I32, I32, Fn> : float_map2<Fn>(t); }
template <class Fn> OpFn bool_map2(DType t) { return t == DType::boolean ? map2<Bool, Bool, Fn> : nullptr; }

template <class Fn> OpFn comparison(DType src) {
  switch (src) {
    case DType::f32: return map2<Bool, F32, Fn>;
    case DType::f16: return map2<Bool, F16, Fn>;
    case DType::bf16: return map2<Bool, BF16, Fn>;
    case DType::i32: return map2<Bool, I32, Fn>;
    default: return nullptr;
  }
}
template <class FnFloat, class FnInt> OpFn sign_map1(DType t) { return t == DType::i32 ? map1<I32, I32, FnInt> : float_map1<FnFloat>(t); }

template <class K> OpFn rows_of(DType t) {
  switch (t) {
    case DType::f32: return reduce_rows<F32, K>;
    case DType::f16: return reduce_rows<F16, K>;
    case DType::bf16: return reduce_rows<BF16, K>;
    case DType::i32: return reduce_rows<I32, K>;
    default: return nullptr;
  }
}
inline OpFn row_sums(DType t) {
  switch (t) {
    case DType::f32: return sum_rows<F32>;
    case DType::f16: return sum_rows<F16>;
    case DType::bf16: return sum_rows<BF16>;
    default: return rows_of<SumOf>(t);
  }
}
template <class K> OpFn cols_of(DType t) {
  switch (t) {
    case DType::f32: return reduce_cols<F32, K>;
    case DType::f16: return reduce_cols<F16, K>;
    case DType::bf16: return reduce_cols<BF16, K>;
    case DType::i32: return reduce_cols<I32, K>;
    default: return nullptr;
  }
}

inline OpFn cumsum_of(DType t) {
  switch (t) {
    case DType::f32: return cumsum<F32>;
    case DType::f16: return cumsum<F16>;
    case DType::bf16: return cumsum<BF16>;
    case DType::i32: return cumsum<I32>;
    default: return nullptr;
  }
}

inline OpFn copy_of(DType t) {
  switch (size_of(t)) {
    case 1: return copy<1>;
    case 2: return copy<2>;
    case 4: return copy<4>;
    default: return copy<8>;
  }
}

template <class D> OpFn cast_from_float(DType src) {
  switch (src) {
    case DType::f32: return map1<D, F32, Same>;
    case DType::f16: return map1<D, F16, Same>;
    case DType::bf16: return map1<D, BF16, Same>;
    case DType::boolean: return map1<D, Bool, OneF>;
    default: return nullptr;
  }
}
template <class D, class FromFloat, class FromInt> OpFn cast_to_other(DType src) {
  switch (src) {
    case DType::f32: return map1<D, F32, FromFloat>;
    case DType::f16: return map1<D, F16, FromFloat>;
    case DType::bf16: return map1<D, BF16, FromFloat>;
    case DType::i32: return map1<D, I32, FromInt>;
    default: return nullptr;
  }
}
inline OpFn cast_of(DType src, DType dst) {
  if (src == dst) return copy_of(src);
  switch (dst) {
    case DType::f32: return src == DType::i32 ? map1<F32, I32, ToFloat> : cast_from_float<F32>(src);
    case DType::f16: return src == DType::i32 ? map1<F16, I32, ToFloatOdd> : cast_from_float<F16>(src);
    case DType::bf16: return src == DType::i32 ? map1<BF16, I32, ToFloatOdd> : cast_from_float<BF16>(src);
    case DType::i32: return src == DType::boolean ? map1<I32, Bool, OneI> : cast_to_other<I32, Truncate, Same>(src);
    case DType::boolean: return cast_to_other<Bool, NonzeroF, NonzeroI>(src);
    default: return nullptr;
  }
}

inline OpFn matmul_of(DType src, DType dst) {
  const bool of_integers = src == DType::i32 || src == DType::i8 || src == DType::u8;
  if (dst != (of_integers ? DType::i32 : DType::f32)) return nullptr;
  switch (src) {
    case DType::f32: return matmul<F32>;
    case DType::f16: return matmul<F16>;
    case DType::bf16: return matmul<BF16>;
    case DType::i32: return matmul<I32>;
    case DType::i8: return matmul<I8>;
    case DType::u8: return matmul<U8>;
    default: return nullptr;
  }
}
inline OpFn where_of(DType t) {
  switch (t) {
    case DType::f32: return map3<F32, Bool, F32, Select>;
    case DType::f16: return map3<F16, Bool, F16, Select>;
    case DType::bf16: return map3<BF16, Bool, BF16, Select>;
    case DType::i32: return map3<I32, Bool, I32, Select>;
    case DType::boolean: return map3<Bool, Bool, Bool, SelectMask>;
    default: return nullptr;
  }
}
inline OpFn fma_of(DType t) {
  switch (t) {
    case DType::f32: return map3<F32, F32, F32, Fma>;
    case DType::f16: return map3<F16, F16, F16, Fma>;
    case DType::bf16: return map3<BF16, BF16, BF16, Fma>;
    default: return nullptr;
  }
}

inline OpFn unary_of(Op op, DType t) {
  switch (op) {
    case Op::neg: return sign_map1<NegF, NegI>(t);
    case Op::abs: return sign_map1<AbsF, AbsI>(t);
    case Op::exp: return float_map1<Exp>(t);
    case Op::log: return float_map1<Log>(t);
    case Op::exp2: return float_map1<Exp2>(t);
    case Op::log2: return float_map1<Log2>(t);
    case Op::sqrt: return float_map1<Sqrt>(t);
    case Op::rsqrt: return float_map1<Rsqrt>(t);
    case Op::reciprocal: return float_map1<Reciprocal>(t);
    case Op::tanh: return float_map1<Tanh>(t);
    case Op::erf: return float_map1<Erf>(t);
    case Op::sin: return float_map1<Sin>(t);
    case Op::cos: return float_map1<Cos>(t);
    case Op::floor: return float_map1<Floor>(t);
    case Op::ceil: return float_map1<Ceil>(t);
    case Op::rint: return float_map1<Rint>(t);
    case Op::trunc: return float_map1<Trunc>(t);
    case Op::logical_not: return t == DType::boolean ? map1<Bool, Bool, Not> : nullptr;
    default: return nullptr;
  }
}
inline OpFn binary_of(Op op, DType t) {
  switch (op) {
    case Op::add: return number_map2<Add>(t);
    case Op::sub: return number_map2<Sub>(t);
    case Op::mul: return number_map2<Mul>(t);
    case Op::div: return float_map2<Div>(t);
    case Op::maximum: return number_map2<Maximum>(t);
    case Op::minimum: return number_map2<Minimum>(t);
    case Op::logical_and: return bool_map2<And>(t);
    case Op::logical_or: return bool_map2<Or>(t);
    default: return nullptr;
  }
}
inline OpFn comparison_of(Op op, DType src) {
  switch (op) {
    case Op::eq: return src == DType::boolean ? map2<Bool, Bool, Xnor> : comparison<Eq>(src);
    case Op::ne: return src == DType::boolean ? map2<Bool, Bool, Xor> : comparison<Ne>(src);
    case Op::lt: return comparison<Lt>(src);
    case Op::le: return comparison<Le>(src);
    case Op::gt: return comparison<Gt>(src);
    case Op::ge: return comparison<Ge>(src);
    default: return nullptr;
  }
}
inline OpFn reduction_of(Op op, DType t) {
  switch (op) {
    case Op::rowsum: return row_sums(t);
    case Op::rowmax: return rows_of<MaximumOf>(t);
    case Op::rowmin: return rows_of<MinimumOf>(t);
    case Op::rowprod: return rows_of<ProductOf>(t);
    case Op::colsum: return cols_of<SumOf>(t);
    case Op::colmax: return cols_of<MaximumOf>(t);
    case Op::colmin: return cols_of<MinimumOf>(t);
    case Op::colprod: return cols_of<ProductOf>(t);
    case Op::count_cols:
    case Op::count_rows: return t == DType::f32 ? count : nullptr;
    default: return nullptr;
  }
}

inline OpFn find_here(Op op, DType src, DType dst) {
  if (op == Op::cast) return cast_of(src, dst);
  if (op == Op::matmul) return matmul_of(src, dst);
  if (kind_of(op) == OpKind::compare) return dst == DType::boolean ? comparison_of(op, src) : nullptr;
  if (src != dst) return nullptr;
  switch (op) {
    case Op::load: return src == DType::boolean ? map1<Bool, Bool, Same> : copy_of(src);
    case Op::store:
    case Op::full:
    case Op::broadcast: return copy_of(src);
    case Op::iota: return src == DType::i32 ? iota : nullptr;
    case Op::where: return where_of(src);
    case Op::fma: return fma_of(src);
    case Op::cumsum: return cumsum_of(src);
    default: break;
  }
  switch (kind_of(op)) {
    case OpKind::unary: return unary_of(op, src);
    case OpKind::binary: return binary_of(op, src);
    case OpKind::row_reduce:
    case OpKind::col_reduce: return reduction_of(op, src);
    default: return nullptr;
  }
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
