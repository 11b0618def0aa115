// Every tile operation at every level this machine has: against scalar references, and all levels bit against bit.

#include <algorithm>
#include <array>
#include <string>

#include "check.hpp"
#include "pto_wsp/isa.hpp"
#include "tile_reference.hpp"

using namespace pto_wsp;
using reference::all_dtypes;

namespace {

std::vector<Isa> levels() {
  std::vector<Isa> found;
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (supports(isa)) found.push_back(isa);
  return found;
}

// A tile in memory of its own, with bytes around it that must not change.
struct Tile {
  DType dtype;
  int rows, cols;
  std::ptrdiff_t stride;
  std::vector<std::byte> memory;
  std::size_t origin;

  Tile(DType t, int r, int c, std::ptrdiff_t extra, bool upwards = false) : dtype(t), rows(r), cols(c) {
    const auto row = static_cast<std::ptrdiff_t>(size_of(t)) * c + extra;
    memory.assign(static_cast<std::size_t>(row * r) + 128, std::byte{0xa5});
    origin = 64;
    stride = row;
    if (upwards) {
      origin += static_cast<std::size_t>(row * (r - 1));
      stride = -row;
    }
  }
  std::byte* at(int r, int c) { return memory.data() + static_cast<std::ptrdiff_t>(origin) + r * stride + c * static_cast<std::ptrdiff_t>(size_of(dtype)); }
  double get(int r, int c) { return reference::decode(at(r, c), dtype); }
  void fill(std::mt19937& random) {
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols; ++c) reference::encode(reference::sample(random, dtype), dtype, at(r, c));
  }
};

bool equal(Tile& a, Tile& b) {
  Tile x = a, y = b;
  for (int r = 0; r < a.rows; ++r)
    for (int c = 0; c < a.cols; ++c) {
      if (!reference::same(a.at(r, c), b.at(r, c), a.dtype)) return false;
      std::memset(x.at(r, c), 0, size_of(a.dtype));
      std::memset(y.at(r, c), 0, size_of(a.dtype));
    }
  return x.memory == y.memory;  // nothing beside the elements has changed
}

std::string describe(Op op, DType src, DType dst, int rows, int cols, Isa isa) {
  return std::string(traits(op).name) + " " + name_of(src) + " -> " + name_of(dst) + " [" + std::to_string(rows) + ", " + std::to_string(cols) + "] " + name_of(isa);
}

struct Call {
  Op op;
  DType src, dst;
  OpArgs args = {};
};

// Runs the call at every level into copies of `expected`'s memory and compares.
void compare(Call call, Tile& expected, int rows, int cols) {
  for (const Isa isa : levels()) {
    Tile got = expected;
    for (std::byte& b : got.memory) b = std::byte{0xa5};
    call.args.dst = got.at(0, 0);
    call.args.dst_rs = got.stride;
    find_op(isa, call.op, call.src, call.dst)(call.args);
    if (!equal(got, expected)) check::fail(describe(call.op, call.src, call.dst, rows, cols, isa), std::source_location::current());
  }
}

constexpr std::array<std::pair<int, int>, 9> shapes = {{{1, 1}, {5, 7}, {1, 8}, {17, 33}, {16, 128}, {40, 1}, {3, 16}, {1, 100}, {34, 5}}};

bool approximate(Op op) { return op == Op::exp || op == Op::log || op == Op::tanh || op == Op::erf || op == Op::sin || op == Op::cos || op == Op::exp2 || op == Op::log2 || op == Op::expm1 || op == Op::log1p; }

// The f32 function as the portable level gives it; its error is measured elsewhere.
double function_value(Op op, double x) {
  const auto in = static_cast<float>(x);
  float out = 0;
  OpArgs a = {};
  a.dst = reinterpret_cast<std::byte*>(&out);
  a.src[0] = reinterpret_cast<const std::byte*>(&in);
  a.rows = a.cols = 1;
  find_op(Isa::portable, op, DType::f32, DType::f32)(a);
  return static_cast<double>(out);
}

void set_source(OpArgs& a, int i, Tile& t, int rows, int cols) {
  a.src[i] = t.at(0, 0);
  a.src_rs[i] = t.rows == 1 && rows > 1 ? 0 : t.stride;
  if (t.cols == 1 && cols > 1) a.bcast = static_cast<std::uint8_t>(a.bcast | (1 << i));
}

void unary_operations(std::mt19937& random) {
  for (const OpTraits& o : op_list)
    for (const DType t : all_dtypes) {
      const Op op = o.op;
      if (o.kind != OpKind::unary) continue;
      if (find_op(Isa::portable, op, t, t) == nullptr) continue;
      for (const auto& [rows, cols] : shapes)
        for (const int extra : {0, 12}) {
          Tile x(t, rows, cols, extra, extra != 0), y(t, rows, cols, extra);
          x.fill(random);
          for (int r = 0; r < rows; ++r)
            for (int c = 0; c < cols; ++c) {
              const double v = x.get(r, c);
              const double exact = approximate(op) ? function_value(op, v) : reference::unary(op, v, t);
              reference::encode(is_float(t) ? reference::rounded(exact, t) : exact, t, y.at(r, c));
            }
          Call call = {op, t, t, {}};
          call.args.rows = rows;
          call.args.cols = cols;
          set_source(call.args, 0, x, rows, cols);
          compare(call, y, rows, cols);
        }
    }
}

void binary_operations(std::mt19937& random) {
  for (const OpTraits& o : op_list)
    for (const DType t : all_dtypes) {
      const Op op = o.op;
      if (o.kind != OpKind::binary && o.kind != OpKind::compare) continue;
      const DType d = o.kind == OpKind::compare ? DType::boolean : t;
      if (find_op(Isa::portable, op, t, d) == nullptr) continue;
      for (const auto& [rows, cols] : shapes)
        for (int mode = 0; mode < 10; ++mode) {  // plain, gaps; then a or b a row, a column, one element
          const int ra = mode == 2 || mode == 6 ? 1 : rows, ca = mode == 3 || mode == 6 ? 1 : cols;
          const int rb = mode == 4 || mode == 7 ? 1 : rows, cb = mode == 5 || mode == 7 || mode == 9 ? 1 : cols;
          Tile a(t, ra, mode == 9 ? 1 : ca, mode == 1 ? 8 : 0, mode == 1), b(t, rb, cb, mode == 1 ? 4 : 0), y(d, rows, cols, mode == 8 ? 3 : 0);
          a.fill(random);
          b.fill(random);
          for (int r = 0; r < rows; ++r)
            for (int c = 0; c < cols; ++c) {
              const double v = reference::binary(op, a.get(r % a.rows, c % a.cols), b.get(r % b.rows, c % b.cols), t);
              reference::encode(is_float(d) ? reference::rounded(v, d) : v, d, y.at(r, c));
            }
          Call call = {op, t, d, {}};
          call.args.rows = rows;
          call.args.cols = cols;
          set_source(call.args, 0, a, rows, cols);
          set_source(call.args, 1, b, rows, cols);
          compare(call, y, rows, cols);
        }
    }
}

void ternary_operations(std::mt19937& random) {
  for (const Op op : {Op::where, Op::fma})
    for (const DType t : all_dtypes) {
      if (find_op(Isa::portable, op, t, t) == nullptr) continue;
      for (const auto& [rows, cols] : shapes)
        for (int mode = 0; mode < 5; ++mode) {
          Tile a(op == Op::where ? DType::boolean : t, rows, mode == 1 ? 1 : cols, 0), b(t, mode == 2 ? 1 : rows, cols, 4), c(t, rows, mode >= 3 ? 1 : cols, 0), y(t, rows, cols, 0);
          for (Tile* x : {&a, &b, &c}) x->fill(random);
          for (int r = 0; r < rows; ++r)
            for (int k = 0; k < cols; ++k) {
              const double p = a.get(r, k % a.cols), q = b.get(r % b.rows, k), s = c.get(r, k % c.cols);
              const double fused = static_cast<double>(std::fma(static_cast<float>(p), static_cast<float>(q), static_cast<float>(s)));
              const double v = op == Op::where ? (p != 0 ? q : s) : reference::rounded(fused, t);
              reference::encode(v, t, y.at(r, k));
            }
          Call call = {op, t, t, {}};
          call.args.rows = rows;
          call.args.cols = cols;
          set_source(call.args, 0, a, rows, cols);
          set_source(call.args, 1, b, rows, cols);
          set_source(call.args, 2, c, rows, cols);
          compare(call, y, rows, cols);
        }
    }
}

void casts_and_copies(std::mt19937& random) {
  for (const DType s : all_dtypes)
    for (const DType d : all_dtypes)
      for (const auto& [rows, cols] : shapes) {
        Tile x(s, rows, cols, 4), y(d, rows, cols, 0);
        x.fill(random);
        if (s == DType::i32 && rows * cols > 20) {  // halves of the last place kept, with and without something below
          for (int c = 0; c < cols; ++c) {
            const std::int64_t v = (std::int64_t{0x1010001} << (random() % 6)) + static_cast<int>(random() % 3) - 1;
            reference::encode(static_cast<double>(random() % 2 != 0 ? v : -v), s, x.at(rows - 1, c));
          }
        }
        for (int r = 0; r < rows; ++r)
          for (int c = 0; c < cols; ++c) reference::encode(reference::cast(x.get(r, c), s, d), d, y.at(r, c));
        Call call = {Op::cast, s, d, {}};
        call.args.rows = rows;
        call.args.cols = cols;
        set_source(call.args, 0, x, rows, cols);
        compare(call, y, rows, cols);
        if (s != d) continue;
        for (const Op op : {Op::load, Op::store, Op::full, Op::broadcast}) {
          Tile from(s, op == Op::full || op == Op::broadcast ? 1 : rows, op == Op::full ? 1 : cols, 0);
          from.fill(random);
          for (int r = 0; r < rows; ++r)
            for (int c = 0; c < cols; ++c) std::memcpy(y.at(r, c), from.at(r % from.rows, c % from.cols), size_of(s));
          Call copy = {op, s, s, {}};
          copy.args.rows = rows;
          copy.args.cols = cols;
          set_source(copy.args, 0, from, rows, cols);
          compare(copy, y, rows, cols);
        }
      }
  for (const int axis : {0, 1})
    for (const auto& [rows, cols] : shapes) {
      Tile y(DType::i32, rows, cols, 4);
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < cols; ++c) reference::encode(axis == 0 ? r + 3 : c, DType::i32, y.at(r, c));
      Call call = {Op::iota, DType::i32, DType::i32, {}};
      call.args.rows = rows;
      call.args.cols = cols;
      call.args.row0 = 3;
      call.args.imm = static_cast<std::uint8_t>(axis);
      compare(call, y, rows, cols);
    }
}

void reductions(std::mt19937& random) {
  for (const OpTraits& o : op_list)
    for (const DType t : all_dtypes) {
      const Op op = o.op;
      const bool by_rows = o.kind == OpKind::row_reduce;
      if ((!by_rows && o.kind != OpKind::col_reduce) || op == Op::count_rows || op == Op::count_cols) continue;
      if (find_op(Isa::portable, op, t, t) == nullptr) continue;
      for (const auto& [rows, cols] : shapes)
        for (const int tame : {0, 1}) {
          Tile x(t, rows, cols, tame * 4), y(t, by_rows ? rows : 1, by_rows ? 1 : cols, 0);
          x.fill(random);
          if (tame != 0 && is_float(t))
            for (int r = 0; r < rows; ++r)
              for (int c = 0; c < cols; ++c) reference::encode(reference::rounded(static_cast<double>(random() % 1000) / 700 - 0.3, t), t, x.at(r, c));
          for (int i = 0; i < (by_rows ? rows : cols); ++i) {
            std::vector<double> line;
            for (int j = 0; j < (by_rows ? cols : rows); ++j) line.push_back(by_rows ? x.get(i, j) : x.get(j, i));
            reference::encode(reference::reduce(op, line, by_rows, t), t, by_rows ? y.at(i, 0) : y.at(0, i));
          }
          Call call = {op, t, t, {}};
          call.args.rows = y.rows;
          call.args.cols = y.cols;
          call.args.inner = by_rows ? cols : rows;
          call.args.src[0] = x.at(0, 0);
          call.args.src_rs[0] = x.stride;
          compare(call, y, rows, cols);
        }
    }
}

void products(std::mt19937& random) {
  constexpr int sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {1, 8, 16}, {17, 33, 9}, {16, 64, 40}, {4, 4, 100}, {9, 1, 33}, {1, 70, 1}, {20, 36, 300}, {3, 1030, 20}, {131, 18, 5}};
  for (const DType t : {DType::f32, DType::f16, DType::bf16, DType::i32})
    for (const auto& [m, n, k] : sizes)
      for (int flags = 0; flags < 8; ++flags) {
        const bool ta = (flags & 1) != 0, tb = (flags & 2) != 0, has_acc = (flags & 4) != 0;
        const DType d = t == DType::i32 ? t : DType::f32;
        Tile a(t, ta ? k : m, ta ? m : k, 0), b(t, tb ? n : k, tb ? k : n, 12, true), acc(d, m, n, 8), y(d, m, n, has_acc ? 0 : 20);
        for (Tile* x : {&a, &b, &acc})
          for (int r = 0; r < x->rows; ++r)
            for (int c = 0; c < x->cols; ++c) {
              const double v = x->dtype == DType::i32 || random() % 200 == 0 ? reference::sample(random, x->dtype) : static_cast<double>(random() % 4001) / 1000 - 2;
              reference::encode(is_float(x->dtype) ? reference::rounded(v, x->dtype) : v, x->dtype, x->at(r, c));
            }
        for (int i = 0; i < m; ++i)
          for (int j = 0; j < n; ++j) {
            const auto pa = [&](int q) { return ta ? a.get(q, i) : a.get(i, q); };
            const auto pb = [&](int q) { return tb ? b.get(j, q) : b.get(q, j); };
            if (t == DType::i32) {
              double s = has_acc ? acc.get(i, j) : 0;
              for (int q = 0; q < k; ++q) s = reference::wrapped(reference::u64(s) + reference::u64(reference::binary(Op::mul, pa(q), pb(q), t)));
              reference::encode(s, d, y.at(i, j));
            } else if (tb && !ta) {
              float lanes[16] = {};
              for (int q = 0; q < k; ++q) lanes[q % 16] = std::fma(static_cast<float>(pa(q)), static_cast<float>(pb(q)), lanes[q % 16]);
              for (int half = 8; half != 0; half /= 2)
                for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
              reference::encode(static_cast<double>(has_acc ? lanes[0] + static_cast<float>(acc.get(i, j)) : lanes[0]), d, y.at(i, j));
            } else {
              float s = has_acc ? static_cast<float>(acc.get(i, j)) : 0.0f;
              for (int q = 0; q < k; ++q) s = std::fma(static_cast<float>(pa(q)), static_cast<float>(pb(q)), s);
              reference::encode(static_cast<double>(s), d, y.at(i, j));
            }
          }
        Call call = {Op::matmul, t, d, {}};
        std::vector<std::byte> work(matmul_work_bytes(m, n, k) + 64);
        call.args.work = work.data() + (64 - reinterpret_cast<std::uintptr_t>(work.data()) % 64);
        call.args.rows = m;
        call.args.cols = n;
        call.args.inner = k;
        call.args.imm = static_cast<std::uint8_t>(flags);
        Tile* const operands[] = {&a, &b, &acc};
        for (int i = 0; i < 3; ++i) {
          call.args.src[i] = operands[i]->at(0, 0);
          call.args.src_rs[i] = operands[i]->stride;
        }
        compare(call, y, m, n);
      }
}

struct Bound {
  Op op;
  double ulp;  // what tile_ops.hpp states
};

double units(double got, double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : 1e9;
  if (static_cast<double>(static_cast<float>(exact)) == got) return std::signbit(exact) == std::signbit(got) || exact != 0 ? 0 : 1e9;
  if (std::isinf(got) || std::isnan(got)) return std::fabs(exact) >= 0x1.fffffep127 && std::signbit(exact) == std::signbit(got) ? 1 : 1e9;
  const int exponent = exact == 0 ? -126 : std::max(std::ilogb(exact), -126);
  return std::fabs(got - exact) / std::ldexp(1.0, std::min(exponent, 127) - 23);
}

// Through all f32 bit patterns in steps of `stride`: the error against libm in double, and the levels against each other.
void functions(std::uint32_t stride, bool print) {
  constexpr Bound bounds[] = {{Op::exp, 1.1}, {Op::exp2, 1.1}, {Op::log, 1}, {Op::log2, 1}, {Op::expm1, 0.5}, {Op::log1p, 0.5}, {Op::tanh, 1.5}, {Op::erf, 1.1}, {Op::sin, 2}, {Op::cos, 2}, {Op::rsqrt, 1.5}, {Op::reciprocal, 0.5}, {Op::sqrt, 0.5}};
  constexpr int batch = 4096;
  std::vector<float> in(batch), best(batch), out(batch);
  const auto evaluate = [&](Op op, Isa isa, std::vector<float>& to) {
    OpArgs a = {};
    a.dst = reinterpret_cast<std::byte*>(to.data());
    a.src[0] = reinterpret_cast<const std::byte*>(in.data());
    a.rows = 1;
    a.cols = batch;
    find_op(isa, op, DType::f32, DType::f32)(a);
  };
  for (const auto& [op, bound] : bounds) {
    double worst = 0;
    float where = 0;
    unsigned turn = 0;
    for (std::uint64_t at = 0; at < (std::uint64_t{1} << 32); at += std::uint64_t{stride} * batch, ++turn) {
      for (int i = 0; i < batch; ++i) in[static_cast<std::size_t>(i)] = std::bit_cast<float>(static_cast<std::uint32_t>(at + static_cast<std::uint64_t>(i) * stride));
      evaluate(op, best_isa(), best);
      for (const Isa isa : levels()) {
        if (isa == best_isa() || (isa == Isa::portable && turn % 4 != 0)) continue;
        evaluate(op, isa, out);
        for (std::size_t i = 0; i < batch; ++i)
          if (!reference::same(reinterpret_cast<const std::byte*>(&best[i]), reinterpret_cast<const std::byte*>(&out[i]), DType::f32))
            check::fail(describe(op, DType::f32, DType::f32, 1, 1, isa) + " differs at " + std::to_string(in[i]), std::source_location::current());
      }
      for (int i = 0; i < batch; ++i) {
        const auto n = static_cast<std::size_t>(i);
        const auto x = static_cast<double>(in[n]);
        const double exact = op == Op::rsqrt ? 1 / std::sqrt(x) : op == Op::reciprocal ? 1 / x : op == Op::sqrt ? std::sqrt(x) : reference::unary(op, x, DType::f32);
        const double u = units(static_cast<double>(best[n]), exact);
        if (u > worst) {
          worst = u;
          where = in[n];
        }
      }
    }
    if (print) std::printf("%-40s %.4f ulp at %a\n", describe(op, DType::f32, DType::f32, 1, 1, best_isa()).c_str(), worst, static_cast<double>(where));
    if (worst > bound) check::fail(describe(op, DType::f32, DType::f32, 1, 1, best_isa()) + ": " + std::to_string(worst) + " ulp at " + std::to_string(where), std::source_location::current());
  }
}

void exact_points() {
  const double inf = std::numeric_limits<double>::infinity();
  const auto is = [](double got, double want) { return got == want && std::signbit(got) == std::signbit(want); };
  CHECK(is(function_value(Op::exp, 0), 1));
  CHECK(is(function_value(Op::exp, -0.0), 1));
  CHECK(is(function_value(Op::exp, -inf), 0));
  CHECK(is(function_value(Op::exp, inf), inf));
  CHECK(is(function_value(Op::log, 1), 0));
  CHECK(is(function_value(Op::log, 0), -inf));
  CHECK(is(function_value(Op::log, -0.0), -inf));
  CHECK(is(function_value(Op::log, inf), inf));
  CHECK(std::isnan(function_value(Op::log, -1)));
  for (const Op odd : {Op::tanh, Op::erf, Op::sin}) {
    CHECK(is(function_value(odd, 0), 0));
    CHECK(is(function_value(odd, -0.0), -0.0));
    CHECK(is(function_value(odd, -0x1p-149), -0x1p-149));
  }
  for (int n = -149; n < 128; ++n) {
    CHECK(is(function_value(Op::exp2, n), std::ldexp(1.0, n)));
    CHECK(is(function_value(Op::log2, std::ldexp(1.0, n)), n));
  }
  CHECK(is(function_value(Op::exp2, 128), inf));
  CHECK(is(function_value(Op::exp2, -inf), 0));
  CHECK(is(function_value(Op::log2, -0.0), -inf));
  CHECK(std::isnan(function_value(Op::log2, -0x1p-149)));
  CHECK(is(function_value(Op::tanh, -inf), -1));
  CHECK(is(function_value(Op::erf, inf), 1));
  CHECK(is(function_value(Op::cos, 0), 1));
  CHECK(std::isnan(function_value(Op::sin, inf)));
  CHECK(std::isnan(function_value(Op::cos, -inf)));
  CHECK(is(function_value(Op::rsqrt, -0.0), -inf));
  CHECK(is(function_value(Op::reciprocal, -inf), -0.0));
}

}  // namespace

// An argument: the step through the f32 bit patterns; then the errors are printed.
int main(int argc, char** argv) {
  const FpEnv env;
  std::mt19937 random(1);
  unary_operations(random);
  binary_operations(random);
  ternary_operations(random);
  casts_and_copies(random);
  reductions(random);
  products(random);
  exact_points();
  functions(argc > 1 ? static_cast<std::uint32_t>(std::stoul(argv[1])) : 4999, argc > 1);
  return check::result();
}
