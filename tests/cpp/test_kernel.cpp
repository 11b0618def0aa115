// Kernels: results do not depend on how they are planned, damaged ones are refused, costs and checks come out right.

#include <cstdlib>
#include <functional>
#include <optional>
#include <string>

#include "check.hpp"
#include "kernel_reference.hpp"

using namespace pto_wsp;
using namespace builder;
using reference::Tensor;

namespace {

struct Scratch {
  std::vector<std::byte> memory;
  std::byte* data;
  explicit Scratch(const Kernel& k) : memory(k.scratch_bytes() + 64, std::byte{0x7f}) {
    data = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  }
};

// Valid sizes: those of the static shape, or something below; the same for equal static sizes, as the checks would demand.
struct Sizes {
  std::map<int, int> valid;
  int operator()(int n) const { return n == 1 ? 1 : valid.at(n); }
};

// Runs the kernel at every level, with every layout, and compares each tensor, the bytes around it included.
void agrees(const KernelBuilder& b, const Sizes& sizes, std::mt19937& random, const std::string& what) {
  const Kernel k = b.decode();
  Scratch scratch(k);
  std::vector<double> scalars(b.params.size());
  std::vector<Tensor> start;
  const unsigned layout_choice = random() % 4;
  for (std::size_t p = 0; p < b.params.size(); ++p) {
    const Param& param = b.params[p];
    scalars[p] = reference::sample(random, param.dtype);
    const int layout = layout_choice == 0 ? 0 : static_cast<int>(random() % (layout_choice == 1 ? 3 : 6));
    start.push_back(param.is_scalar ? Tensor{} : reference::tensor(param.dtype, sizes(param.rows), sizes(param.cols), layout));
    for (int r = 0; r < start[p].rows && !param.is_scalar; ++r)
      for (int c = 0; c < start[p].cols; ++c) {
        reference::encode(reference::sample(random, param.dtype), param.dtype, start[p].at(r, c));
        if (param.dtype == DType::boolean && random() % 3 == 0 && param.dir == Dir::in) *start[p].at(r, c) = std::byte{0x40};
      }
  }
  std::vector<Tensor> want = start;
  reference::interpret(b, want, scalars);
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512}) {
    if (!supports(isa)) continue;
    set_isa(isa);
    std::vector<Tensor> got = start;
    std::vector<Arg> args(got.size());
    for (std::size_t p = 0; p < got.size(); ++p) {
      if (b.params[p].is_scalar) args[p].scalar = reference::scalar_bits(scalars[p], b.params[p].dtype);
      else args[p] = got[p].arg();
    }
    CHECK_EQ(k.failed_check(args), -1);
    for (std::byte& x : scratch.memory) x = std::byte{0x7f};
    k.run(args, scratch.data);
    for (std::size_t p = 0; p < got.size(); ++p) {
      if (b.params[p].is_scalar) continue;
      bool same = true;
      Tensor x = got[p], y = want[p];
      for (int r = 0; r < x.rows; ++r)
        for (int c = 0; c < x.cols; ++c) {
          same = same && reference::same(x.at(r, c), y.at(r, c), x.dtype);
          std::memset(x.at(r, c), 0, size_of(x.dtype));
          std::memset(y.at(r, c), 0, size_of(x.dtype));
        }
      if (!same || x.memory != y.memory) check::fail(what + ", parameter " + std::to_string(p) + ", " + name_of(isa), std::source_location::current());
    }
  }
  set_isa(best_isa());
}

// Kernels made at random of a few shapes, with loads after stores, values used again late, and several stores to a parameter.
class RandomKernel {
 public:
  RandomKernel(std::mt19937& random, bool large) : random_(random) {
    static constexpr int small_sizes[] = {2, 3, 5, 8, 17}, large_sizes[] = {70, 64, 129, 200, 33};
    m_ = large ? large_sizes[pick(5)] * (1 + pick(3)) : small_sizes[pick(5)];
    do n_ = large ? large_sizes[pick(5)] : small_sizes[pick(5)];
    while (n_ == m_);
  }

  KernelBuilder build(int length) {
    static constexpr DType types[] = {DType::f32, DType::f32, DType::f16, DType::bf16, DType::i32, DType::boolean};
    const int n_params = 3 + pick(4);
    for (int p = 0; p < n_params; ++p) {
      const int shape = pick(6);
      const DType t = p < 2 ? DType::f32 : types[pick(6)];
      b_.tile(static_cast<Dir>(p < 2 ? 0 : 1 + pick(2)), t, shape == 4 ? 1 : m_, shape == 5 || shape == 3 ? 1 : n_);
    }
    b_.scalar(DType::f32);
    for (int p = 0; p < n_params; ++p) {  // equal static sizes are equal valid sizes
      for (int q = 0; q < p; ++q) {
        if (param(p).rows == param(q).rows) b_.check(0, rows_of(p), rows_of(q));
        if (param(p).cols == param(q).cols) b_.check(0, cols_of(p), cols_of(q));
      }
      if (param(p).rows == m_) m_dim_ = rows_of(p);
      if (param(p).cols == n_) n_dim_ = cols_of(p);
    }
    if (m_dim_.kind == 0) m_dim_ = fixed(m_);
    if (n_dim_.kind == 0) n_dim_ = fixed(n_);
    m_known_ = m_dim_.kind != 0;
    n_known_ = n_dim_.kind != 0;
    for (int p = 0; p < n_params; ++p) load(p);
    for (int i = 0; i < length; ++i) step(n_params);
    return b_;
  }
  Sizes sizes(bool full) {
    return {{{m_, full || !m_known_ ? m_ : 1 + pick(m_)}, {n_, full || !n_known_ ? n_ : 1 + pick(n_)}}};
  }

 private:
  int pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  const Param& param(int p) const { return b_.params[static_cast<std::size_t>(p)]; }
  const ValueType& type(int v) const { return b_.values[static_cast<std::size_t>(v)]; }
  Dim rows_dim(int rows) const { return rows == 1 ? fixed(1) : rows == m_ ? m_dim_ : n_dim_; }
  Dim cols_dim(int cols) const { return cols == 1 ? fixed(1) : cols == n_ ? n_dim_ : m_dim_; }
  void load(int p) {
    b_.make(Op::load, param(p).dtype, param(p).rows, param(p).cols, rows_dim(param(p).rows), cols_dim(param(p).cols), {par(p)});
  }
  int any() {
    const int count = static_cast<int>(b_.values.size());
    return pick(2) != 0 ? pick(count) : std::max(0, count - 1 - pick(4));
  }
  int make(Op op, DType t, int rows, int cols, std::vector<Src> src, std::vector<int> imm = {}) {
    return b_.make(op, t, rows, cols, rows_dim(rows), cols_dim(cols), std::move(src), std::move(imm));
  }

  void step(int n_params) {
    const int v = any();
    const ValueType t = type(v);
    const bool number = t.dtype != DType::boolean;
    switch (pick(17)) {
      case 12: return t.rows == 1 || t.cols == 1 ? void() : static_cast<void>(make(Op::transpose, t.dtype, t.cols, t.rows, {val(v)}));
      case 13:
        if (number) make(Op::cumsum, t.dtype, t.rows, t.cols, {val(v)}, {pick(2)});
        return;
      case 14:
        if (number) make(pick(2) != 0 ? Op::rowargmax : Op::rowargmin, DType::i32, t.rows, 1, {val(v)});
        return;
      case 15: return move_by_index(v, any());
      case 0: return load(pick(n_params));
      case 1:
      case 2: return store(v, n_params);
      case 3:
      case 4:
      case 5: {  // two tiles, one of which may be a row or a column
        const int w = any();
        const ValueType u = type(w);
        const bool fits = (u.rows == t.rows || u.rows == 1 || t.rows == 1) && (u.cols == t.cols || u.cols == 1 || t.cols == 1);
        if (u.dtype != t.dtype || !fits) return;
        const Op op = !number ? (pick(2) != 0 ? Op::logical_and : Op::logical_or) : pick(2) != 0 ? Op::add : pick(2) != 0 ? Op::mul : Op::maximum;
        make(op, t.dtype, std::max(t.rows, u.rows), std::max(t.cols, u.cols), {val(v), val(w)});
        return;
      }
      case 6:
        if (t.dtype == DType::f32) make(pick(2) != 0 ? Op::sub : Op::minimum, t.dtype, t.rows, t.cols, {val(v), pick(2) != 0 ? lit(1.5) : par(n_params)});
        return;
      case 7:
        if (is_float(t.dtype)) make(pick(2) != 0 ? Op::abs : Op::floor, t.dtype, t.rows, t.cols, {val(v)});
        else if (number) make(Op::ge, DType::boolean, t.rows, t.cols, {val(v), lit(0)});
        return;
      case 8:
        if (number) make(pick(2) != 0 ? Op::rowsum : Op::rowmax, t.dtype, t.rows, 1, {val(v)});
        return;
      case 9:
        if (number) make(pick(2) != 0 ? Op::colsum : Op::colmin, t.dtype, 1, t.cols, {val(v)});
        return;
      case 10: {
        static constexpr DType to[] = {DType::f32, DType::f16, DType::bf16, DType::i32, DType::boolean};
        if (pick(2) != 0) make(Op::cast, to[pick(5)], t.rows, t.cols, {val(v)});
        else make(Op::broadcast, t.dtype, t.rows == 1 ? m_ : t.rows, t.cols == 1 ? n_ : t.cols, {val(v)});
        return;
      }
      default: {  // t transposed times t: [cols, cols], or t times t transposed
        if (!number) return;
        const DType d = t.dtype == DType::i32 ? DType::i32 : DType::f32;
        const bool first = pick(2) != 0;
        const int side = first ? t.cols : t.rows;
        if (side != 1 && (first ? !n_known_ : !m_known_)) return;
        const int product = b_.make(Op::matmul, d, side, side, first ? side_dim(side) : rows_dim(side), first ? cols_dim(side) : side_dim_of_rows(side), {val(v), val(v)},
                                    first ? std::vector<int>{1, 0} : std::vector<int>{0, 1});
        make_reduced(product, side);
      }
    }
  }
  // Some of the indices lead outside.
  void move_by_index(int v, int w) {
    const ValueType t = type(v), u = type(w);
    if (u.dtype != DType::i32 || u.rows != t.rows || u.cols != t.cols) return;
    const int axis = pick(2);
    if (pick(2) != 0) make(Op::gather, t.dtype, t.rows, t.cols, {val(v), val(w)}, {axis});
    else make(Op::scatter, t.dtype, t.rows, t.cols, {val(v), val(w), val(v)}, {axis});
  }

  // A dimension of rows used for columns and the other way round: the parameter's own says how many.
  Dim side_dim(int side) const { return side == 1 ? fixed(1) : side == n_ ? n_dim_ : m_dim_; }
  Dim side_dim_of_rows(int side) const { return side == 1 ? fixed(1) : side == m_ ? m_dim_ : n_dim_; }
  void make_reduced(int product, int side) {
    const ValueType t = type(product);
    b_.make(Op::rowmax, t.dtype, side, 1, t.valid_rows, fixed(1), {val(product)});
  }

  void store(int v, int n_params) {
    const ValueType t = type(v);
    for (int tries = 0; tries < 6; ++tries) {
      const int p = pick(n_params);
      if (param(p).dir != Dir::in && param(p).dtype == t.dtype && param(p).rows == t.rows && param(p).cols == t.cols) return b_.store(p, v);
    }
  }

  std::mt19937& random_;
  KernelBuilder b_;
  int m_ = 0, n_ = 0;
  Dim m_dim_ = fixed(1), n_dim_ = fixed(1);
  bool m_known_ = false, n_known_ = false;
};

void random_kernels(int count) {
  for (int seed = 0; seed < count; ++seed) {
    std::mt19937 random(static_cast<unsigned>(seed));
    const bool large = seed % 4 == 3;
    RandomKernel maker(random, large);
    const KernelBuilder b = maker.build(large ? 30 : 5 + static_cast<int>(random() % 60));
    agrees(b, maker.sizes(seed % 2 == 0), random, "random kernel " + std::to_string(seed));
  }
}

KernelBuilder add_kernel(int rows, int cols) {
  KernelBuilder b;
  const int x = b.tile(Dir::in, DType::f32, rows, cols), y = b.tile(Dir::in, DType::f32, rows, cols), z = b.tile(Dir::out, DType::f32, rows, cols);
  for (const int p : {y, z}) {
    b.check(0, rows_of(x), rows_of(p));
    b.check(0, cols_of(x), cols_of(p));
  }
  const int a = b.load(x), c = b.load(y);
  b.store(z, b.like(Op::add, a, {val(a), val(c)}));
  return b;
}

KernelBuilder rmsnorm(int rows, int cols, bool weight_is_f16) {
  KernelBuilder b;
  const DType w_type = weight_is_f16 ? DType::f16 : DType::f32;
  const int x = b.tile(Dir::in, DType::f32, rows, cols), w = b.tile(Dir::in, w_type, 1, cols), z = b.tile(Dir::out, DType::f32, rows, cols);
  b.check(0, rows_of(x), rows_of(z));
  b.check(0, cols_of(x), cols_of(z));
  b.check(0, cols_of(x), cols_of(w));
  const int a = b.load(x);
  const int square = b.like(Op::mul, a, {val(a), val(a)});
  const int sum = b.make(Op::rowsum, DType::f32, rows, 1, rows_of(x), fixed(1), {val(square)});
  const int mean = b.like(Op::mul, sum, {val(sum), lit(1.0 / 64)});
  const int scale = b.like(Op::rsqrt, mean, {val(mean)});
  const int normal = b.like(Op::mul, a, {val(a), val(scale)});
  int weight = b.load(w);
  if (weight_is_f16) weight = b.make(Op::cast, DType::f32, 1, cols, fixed(1), cols_of(x), {val(weight)});
  b.store(z, b.like(Op::mul, a, {val(normal), val(weight)}));
  return b;
}

void known_kernels() {
  std::mt19937 random(7);
  for (const auto& [rows, cols] : {std::pair{1, 8}, {5, 7}, {17, 33}, {16, 128}, {300, 100}}) {
    for (int turn = 0; turn < 6; ++turn) {
      const Sizes full = {{{rows, rows}, {cols, cols}}};
      const Sizes part = {{{rows, std::max(1, rows / 2)}, {cols, std::max(1, cols - 3)}}};
      const Sizes& sizes = turn % 2 == 0 ? full : part;
      agrees(add_kernel(rows, cols), sizes, random, "add");
      agrees(rmsnorm(rows, cols, false), sizes, random, "rmsnorm");
      agrees(rmsnorm(rows, cols, true), sizes, random, "rmsnorm with a cast weight");
    }
  }
  // A row-wise chain stays in strips, also where a weight is cast in between: no value is held whole.
  const auto without_staging = [](const Kernel& k) {
    std::size_t staging = 0;
    for (const Param& p : k.params()) staging += (size_of(p.dtype) * static_cast<std::size_t>(p.rows) * static_cast<std::size_t>(p.cols) + 63) / 64 * 64;
    return k.scratch_bytes() - staging;
  };
  CHECK(without_staging(rmsnorm(4096, 128, true).decode()) < 64 * 1024);
  CHECK(without_staging(add_kernel(4096, 128).decode()) <= 64);
}

// x is read, written, read again: each load has what was there at its place.
void loads_keep_their_value() {
  std::mt19937 random(3);
  for (const int rows : {4, 700}) {
    KernelBuilder b;
    const int x = b.tile(Dir::inout, DType::f32, rows, 40), y = b.tile(Dir::out, DType::f32, rows, 40);
    b.check(0, rows_of(x), rows_of(y));
    b.check(0, cols_of(x), cols_of(y));
    const int before = b.load(x);
    b.store(x, b.like(Op::add, before, {val(before), lit(1)}));
    const int after = b.load(x);
    b.store(x, b.like(Op::mul, after, {val(after), val(before)}));
    b.store(y, b.like(Op::sub, before, {val(before), val(after)}));
    agrees(b, {{{rows, rows}, {40, 40}}}, random, "load, store, load");
    agrees(b, {{{rows, rows - 1}, {40, 39}}}, random, "load, store, load");
  }
}

// Stores that must not be made where the value is computed.
void stores_wait_where_they_must() {
  std::mt19937 random(5);
  const auto run = [&](const KernelBuilder& b, int rows, int cols, const char* what) {
    for (int turn = 0; turn < 8; ++turn) agrees(b, {{{rows, rows - turn % 2}, {cols, cols - turn % 2}}}, random, what);
  };
  {  // a matmul reads all of what it would overwrite
    KernelBuilder b;
    const int x = b.tile(Dir::inout, DType::f32, 72, 72);
    b.check(0, rows_of(x), cols_of(x));
    const int a = b.load(x);
    const int sum = b.make(Op::matmul, DType::f32, 72, 72, rows_of(x), cols_of(x), {val(a), val(a)}, {0, 0});
    b.store(x, sum);
    for (int turn = 0; turn < 4; ++turn) agrees(b, {{{72, 72 - turn}}}, random, "x = x x");
  }
  {  // but may add to it in place
    KernelBuilder b;
    const int x = b.tile(Dir::inout, DType::f32, 72, 72), y = b.tile(Dir::in, DType::f32, 72, 72);
    b.check(0, rows_of(x), cols_of(x));
    b.check(0, rows_of(x), rows_of(y));
    b.check(0, cols_of(x), cols_of(y));
    const int a = b.load(x), c = b.load(y);
    b.store(x, b.like(Op::matmul, a, {val(c), val(c), val(a)}));
    b.instrs[2].imm = {0, 1};
    for (int turn = 0; turn < 4; ++turn) agrees(b, {{{72, 72 - turn}}}, random, "x = x + y y^T");
  }
  {  // the parameter still holds an earlier value that is read again
    KernelBuilder b;
    const int x = b.tile(Dir::in, DType::f32, 9, 12), p = b.tile(Dir::out, DType::f32, 9, 12), q = b.tile(Dir::out, DType::f32, 9, 12);
    for (const int other : {p, q}) {
      b.check(0, rows_of(x), rows_of(other));
      b.check(0, cols_of(x), cols_of(other));
    }
    const int a = b.load(x);
    const int first = b.like(Op::add, a, {val(a), lit(1)});
    b.store(p, first);
    const int second = b.like(Op::mul, a, {val(a), lit(2)});
    b.store(q, b.like(Op::sub, a, {val(first), lit(3)}));
    b.store(p, second);
    run(b, 9, 12, "two stores to one parameter");
  }
  {  // the value has more elements than the parameter has room for, and they are used
    KernelBuilder b;
    const int p = b.tile(Dir::out, DType::f32, 9, 12), q = b.tile(Dir::out, DType::f32, 9, 1);
    b.check(0, rows_of(p), rows_of(q));
    const int ones = b.make(Op::full, DType::f32, 9, 12, fixed(9), fixed(12), {lit(1)});
    b.store(p, ones);
    b.store(q, b.make(Op::rowsum, DType::f32, 9, 1, fixed(9), fixed(1), {val(ones)}));
    run(b, 9, 12, "a store of part of a value");
  }
}

// Kernels of one operation that moves or orders elements, on tiles x [m, n], y [m, k] and so on.
class Moving {
 public:
  Moving(std::mt19937& random, DType t, int m, int n, int k) : random_(random), t_(t), m_(m), n_(n), k_(k) {}

  void run() {
    x_ = add(m_, n_);
    one(Op::transpose, n_, m_, {val(x_)});
    if (t_ != DType::boolean) {
      for (const int axis : {0, 1}) {
        x_ = add(m_, n_);
        one(Op::cumsum, m_, n_, {val(x_)}, {axis});
      }
      for (const Op op : {Op::rowargmax, Op::rowargmin}) {
        x_ = add(m_, n_);
        one(op, m_, 1, {val(x_)}, {}, DType::i32);
      }
      topk();
    }
    slices();
    for (const int axis : {0, 1}) {
      x_ = add(axis == 0 ? m_ : k_, axis == 0 ? k_ : m_);
      whole_ = {m_, n_};
      const int y = add(axis == 0 ? n_ : k_, axis == 0 ? k_ : n_);
      one(Op::concat, axis == 0 ? m_ + n_ : k_, axis == 0 ? k_ : m_ + n_, {val(x_), val(y)}, {axis});
      indexed(axis);
    }
    x_ = add(m_, 2 * n_);
    whole_ = {m_, 2 * n_};
    one(Op::reshape, 2 * m_, n_, {val(x_)});
    x_ = add(m_, n_);
    whole_ = {n_};
    const int y = add(m_, n_);
    one(Op::interleave, m_, 2 * n_, {val(x_), val(y)});
    if (t_ == DType::i32) {
      x_ = small(add(m_, n_), 12);
      one(Op::bincount, 1, 11, {val(x_)});
    }
  }

 private:
  void slices() {
    x_ = add(m_, n_);
    whole_ = {m_};
    one(Op::slice, m_ - 1, n_, {val(x_)}, {1, 0, 1});
    x_ = add(m_, n_);
    whole_ = {n_};
    one(Op::slice, m_, n_ / 2, {val(x_)}, {0, 1, 2});
    x_ = add(m_, n_);
    whole_ = {m_, n_};
    one(Op::slice, 1, 1, {val(x_)}, {m_ / 2, n_ - 1, 3});
  }

  void topk() {
    for (const int k : {1, n_ - 1, n_}) {
      x_ = add(m_, n_);
      const int i = b_.make(Op::extract_topk_indices, DType::i32, m_, k, dim(m_), fixed(k), {val(x_)});
      const int out = b_.tile(Dir::out, DType::i32, m_, k);
      store(i, out);
      one(Op::topk_values, m_, k, {val(x_), val(i)});
    }
  }

  // x [m, n] with [k] of its rows (axis 0) or columns, indices whole or repeated; then into x.
  void indexed(int axis) {
    const bool down = axis == 0;
    for (const bool repeated : {false, true}) {
      const int other = down ? n_ : m_;
      const auto index = [&] { return small(down ? add(k_, repeated ? 1 : other, DType::i32) : add(repeated ? 1 : other, k_, DType::i32), (down ? m_ : n_) + 1); };
      x_ = add(m_, n_);
      const int i = index();
      one(Op::gather, down ? k_ : m_, down ? n_ : k_, {val(x_), val(i)}, {axis});
      x_ = down ? add(m_, 1) : add(1, n_);
      const int j = index();
      if (!repeated) one(Op::gather, down ? k_ : m_, down ? n_ : k_, {val(x_), val(j)}, {axis});
      b_ = {};
      x_ = add(m_, n_);
      const int l = index();
      const int from = down ? add(k_, n_) : add(m_, k_);
      one(Op::scatter, m_, n_, {val(x_), val(l), val(from)}, {axis});
    }
  }

  // Numbers around 0 .. below, from whatever an i32 tile holds.
  int small(int v, int below) {
    const int high = b_.like(Op::minimum, v, {val(v), whole(below)});
    return b_.like(Op::maximum, v, {val(high), whole(-1)});
  }

  // A parameter of this size, and its value; equal sizes are equal valid sizes.
  int add(int rows, int cols) { return add(rows, cols, t_); }
  int add(int rows, int cols, DType t) {
    const int p = b_.tile(Dir::in, t, rows, cols);
    agree(p);
    return b_.load(p);
  }
  void agree(int p) {
    const Param& mine = b_.params[static_cast<std::size_t>(p)];
    for (int q = 0; q < p; ++q) {
      const Param& theirs = b_.params[static_cast<std::size_t>(q)];
      if (mine.rows == theirs.rows) b_.check(0, rows_of(p), rows_of(q));
      if (mine.cols == theirs.cols) b_.check(0, cols_of(p), cols_of(q));
      if (mine.rows == theirs.cols) b_.check(0, rows_of(p), cols_of(q));
      if (mine.cols == theirs.rows) b_.check(0, cols_of(p), rows_of(q));
    }
  }
  // The size of a parameter of this many rows or columns; all of them, where there is none.
  Dim dim(int n) const {
    for (std::size_t p = 0; p < b_.params.size(); ++p) {
      if (n != 1 && b_.params[p].rows == n) return rows_of(static_cast<int>(p));
      if (n != 1 && b_.params[p].cols == n) return cols_of(static_cast<int>(p));
    }
    return fixed(n);
  }
  void store(int v, int p) {
    agree(p);
    b_.store(p, v);
  }

  // The operation between two others of its rows, on whole and on smaller tiles.
  void one(Op op, int rows, int cols, std::vector<Src> src, std::vector<int> imm = {}, std::optional<DType> result = {}) {
    const DType t = result.value_or(t_);
    for (const int n : whole_)
      if (const Dim d = dim(n); d.kind != 0) b_.check(1, d, fixed(n));
    const auto extent = [&](int n) {
      return std::find(whole_.begin(), whole_.end(), n) != whole_.end() || op == Op::topk_values ? fixed(n) : dim(n);
    };
    const Dim valid_rows = op == Op::topk_values ? dim(rows) : extent(rows);
    const int v = b_.make(op, t, rows, cols, valid_rows, extent(cols), std::move(src), std::move(imm));
    const int w = t == DType::boolean ? b_.like(Op::logical_not, v, {val(v)}) : b_.like(Op::abs, v, {val(v)});
    const int first = b_.tile(Dir::out, t, rows, cols), second = b_.tile(Dir::out, t, rows, cols);
    store(v, first);
    store(w, second);
    for (const bool full : {true, false}) {
      Sizes sizes;
      for (const Param& p : b_.params)
        for (const int n : {p.rows, p.cols}) {
          const bool all = full || extent(n).kind == 0;
          sizes.valid[n] = all ? n : 1 + static_cast<int>(random_() % static_cast<unsigned>(n));
        }
      agrees(b_, sizes, random_, "operation " + std::to_string(static_cast<int>(op)) + " of " + name_of(t_));
    }
    b_ = {};
    whole_.clear();
  }

  std::mt19937& random_;
  KernelBuilder b_;
  DType t_;
  int m_, n_, k_, x_ = 0;
  std::vector<int> whole_;
};

void moving_kernels() {
  std::mt19937 random(11);
  for (const DType t : reference::all_dtypes)
    for (const auto& [m, n, k] : {std::tuple{3, 5, 2}, {17, 40, 9}, {300, 90, 33}}) Moving(random, t, m, n, k).run();
}

// The first index outside is told, others are left out.
void faults() {
  KernelBuilder b;
  const int x = b.tile(Dir::in, DType::f32, 2, 4), i = b.tile(Dir::in, DType::i32, 2, 4), y = b.tile(Dir::out, DType::f32, 2, 4);
  for (const int p : {i, y}) {
    b.check(0, rows_of(x), rows_of(p));
    b.check(0, cols_of(x), cols_of(p));
  }
  const int values = b.load(x), indices = b.load(i);
  b.store(y, b.make(Op::gather, DType::f32, 2, 4, rows_of(x), cols_of(x), {val(values), val(indices)}, {1}));
  const Kernel k = b.decode();
  CHECK(k.may_fault());
  CHECK(!add_kernel(4, 8).decode().may_fault());
  Scratch scratch(k);
  float from[8] = {0, 1, 2, 3, 4, 5, 6, 7}, to[8] = {};
  std::int32_t at[8] = {3, 2, 1, 0, 0, 5, -1, 0};
  std::vector<Arg> args(3);
  args[0].tile = {reinterpret_cast<std::byte*>(from), 16, 4, 2, 4, nullptr, nullptr};
  args[1].tile = {reinterpret_cast<std::byte*>(at), 16, 4, 2, 4, nullptr, nullptr};
  args[2].tile = {reinterpret_cast<std::byte*>(to), 16, 4, 2, 4, nullptr, nullptr};
  const Fault fault = k.run(args, scratch.data);
  CHECK_EQ(fault.origin, 2);
  CHECK(fault.kind == FaultKind::index);
  CHECK_EQ(fault.a, 5);
  CHECK_EQ(fault.b, 4);
  CHECK(to[0] == 3 && to[3] == 0 && to[4] == 4 && to[7] == 4);
  at[5] = at[6] = 3;
  CHECK_EQ(k.run(args, scratch.data).origin, -1);
  for (Arg& a : args) a.tile.cols = 3;
  CHECK_EQ(k.run(args, scratch.data).a, 3);  // there, but not valid
}

void costs_and_checks() {
  KernelBuilder b = add_kernel(16, 32);
  b.cost = writer::Out().u(3).u(1).u(1).u(0).u(1).u(2).u(0).u(4).bytes;  // rows * cols
  Kernel k = b.decode();
  std::vector<Arg> args(3);
  for (Arg& a : args) a.tile = {nullptr, 0, 0, 16, 32, nullptr, nullptr};
  CHECK_EQ(k.cost(args), 512);
  CHECK_EQ(k.failed_check(args), -1);
  for (Arg& a : args) a.tile.rows = 3;
  CHECK_EQ(k.cost(args), 96);
  CHECK_EQ(k.failed_check(args), -1);
  args[2].tile.cols = 31;
  CHECK_EQ(k.failed_check(args), 3);

  const auto cost_of = [&](const writer::Out& o) {
    b.cost = o.bytes;
    return b.decode().cost(args);
  };
  const auto binary = [](std::int64_t x, std::int64_t y, unsigned op) { return writer::Out().u(3).u(0).s(x).u(0).s(y).u(op); };
  CHECK_EQ(cost_of(binary(7, 2, 5)), 3);
  CHECK_EQ(cost_of(binary(-7, -2, 5)), 3);
  CHECK_EQ(cost_of(binary(-7, 2, 6)), 1);
  CHECK_EQ(cost_of(binary(7, 2, 9)), 4);
  CHECK_EQ(cost_of(binary(8, 2, 9)), 4);
  CHECK_EQ(cost_of(binary(3, 9, 7)), 3);
  CHECK_EQ(cost_of(binary(3, 9, 8)), 9);
  CHECK_EQ(cost_of(binary(INT64_MIN, -1, 6)), 0);
  CHECK_THROWS(CostError, cost_of(binary(INT64_MIN, -1, 5)));
  CHECK_THROWS(CostError, cost_of(binary(INT64_MAX, 1, 2)));
  CHECK_THROWS(CostError, cost_of(binary(INT64_MAX, 2, 4)));
  CHECK_THROWS(CostError, cost_of(binary(1, 2, 3)));
  CHECK_THROWS(CostError, cost_of(binary(1, 0, 5)));
  CHECK_THROWS(PlanError, cost_of(writer::Out().u(2).u(0).s(1).u(2)));
  CHECK_THROWS(PlanError, cost_of(writer::Out().u(2).u(0).s(1).u(0).s(1)));
  CHECK_THROWS(PlanError, cost_of(writer::Out().u(0)));
}

void refused(const char* what, const std::function<void(KernelBuilder&)>& damage) {
  KernelBuilder b = add_kernel(4, 8);
  damage(b);
  try {
    static_cast<void>(b.decode());
  } catch (const PlanError&) {
    return;
  }
  check::fail(std::string("not refused: ") + what, std::source_location::current());
}

void damaged_kernels() {
  // add_kernel: values 0, 1 loaded, 2 their sum; instructions load, load, add, store.
  refused("a value assigned twice", [](KernelBuilder& b) { b.instrs[1].dst = 0; });
  refused("a value used before it is assigned", [](KernelBuilder& b) { std::swap(b.instrs[0], b.instrs[2]); });
  refused("a store to an input", [](KernelBuilder& b) { b.instrs[3].src[0] = par(0); });
  refused("no such value", [](KernelBuilder& b) { b.instrs[2].src[0] = val(9); });
  refused("no such parameter", [](KernelBuilder& b) { b.instrs[0].src[0] = par(9); });
  refused("a result of store", [](KernelBuilder& b) { b.instrs[3].dst = 2; });
  refused("another dtype", [](KernelBuilder& b) { b.values[2].dtype = DType::i32; });
  refused("another shape", [](KernelBuilder& b) { b.values[2].cols = 7; });
  refused("a valid shape of another size", [](KernelBuilder& b) { b.values[2].valid_rows = cols_of(0); });
  refused("more valid than loaded", [](KernelBuilder& b) { b.values[0].valid_rows = fixed(4); });
  refused("sizes nobody checked", [](KernelBuilder& b) { b.checks.clear(); });
  refused("an unknown operation", [](KernelBuilder& b) { b.instrs[2].op = static_cast<Op>(58); });
  refused("an operation of other types", [](KernelBuilder& b) { b.instrs[2].op = Op::logical_and; });
  refused("too few operands", [](KernelBuilder& b) { b.instrs[2].src.pop_back(); });
  refused("an immediate too many", [](KernelBuilder& b) { b.instrs[2].imm = {1}; });
  refused("a tile as a scalar", [](KernelBuilder& b) { b.instrs[2].src[1] = par(0); });
  refused("only literals", [](KernelBuilder& b) { b.instrs[2].src = {lit(1), lit(2)}; });
  refused("an empty tile", [](KernelBuilder& b) { b.params[0].rows = 0; });
  refused("a huge tile", [](KernelBuilder& b) { b.params[0].rows = 1 << 28; });
  refused("iota along a third axis", [](KernelBuilder& b) {
    const int v = b.value(DType::i32, 4, 8, rows_of(0), cols_of(0));
    b.instrs.push_back({Op::iota, v, {}, {2}});
  });
  refused("a literal that is no i32", [](KernelBuilder& b) { b.make(Op::full, DType::i32, 4, 8, fixed(4), fixed(8), {lit(0.5)}); });
  refused("matmul of sizes that do not fit", [](KernelBuilder& b) { b.make(Op::matmul, DType::f32, 4, 8, rows_of(0), cols_of(0), {val(0), val(1)}, {0, 0}); });
  refused("a reduction to another size", [](KernelBuilder& b) { b.make(Op::rowsum, DType::f32, 1, 8, fixed(1), cols_of(0), {val(0)}); });
  refused("broadcast of a size that is not 1", [](KernelBuilder& b) { b.make(Op::broadcast, DType::f32, 8, 8, fixed(8), cols_of(0), {val(0)}); });

  // Of the operations that move elements: parts that are not there, or not known to be.
  refused("a slice beyond the tile", [](KernelBuilder& b) { b.make(Op::slice, DType::f32, 4, 4, rows_of(0), fixed(4), {val(0)}, {0, 5, 1}); });
  refused("a slice of what may not be valid", [](KernelBuilder& b) { b.make(Op::slice, DType::f32, 4, 4, rows_of(0), fixed(4), {val(0)}, {0, 4, 1}); });
  refused("a slice that goes backwards", [](KernelBuilder& b) { b.make(Op::slice, DType::f32, 4, 8, rows_of(0), cols_of(0), {val(0)}, {0, 0, 0}); });
  refused("a concat of tails", [](KernelBuilder& b) { b.make(Op::concat, DType::f32, 4, 16, rows_of(0), fixed(16), {val(0), val(1)}, {1}); });
  refused("a transpose to the same shape", [](KernelBuilder& b) { b.make(Op::transpose, DType::f32, 4, 8, rows_of(0), cols_of(0), {val(0)}); });
  refused("a reshape to more elements", [](KernelBuilder& b) { b.make(Op::reshape, DType::f32, 4, 16, fixed(4), fixed(16), {val(0)}); });
  refused("a gather by floats", [](KernelBuilder& b) { b.make(Op::gather, DType::f32, 4, 8, rows_of(0), cols_of(0), {val(0), val(1)}, {1}); });
  refused("a scatter of more elements than indices", [](KernelBuilder& b) {
    const int i = b.make(Op::iota, DType::i32, 4, 4, fixed(4), fixed(4), {}, {0});
    b.make(Op::scatter, DType::f32, 4, 8, rows_of(0), cols_of(0), {val(0), val(i), val(1)}, {1});
  });
  refused("more of the largest than there are", [](KernelBuilder& b) { b.make(Op::extract_topk_indices, DType::i32, 4, 9, rows_of(0), fixed(9), {val(0)}); });
  refused("a count in several rows", [](KernelBuilder& b) {
    const int i = b.make(Op::iota, DType::i32, 4, 4, fixed(4), fixed(4), {}, {0});
    b.make(Op::bincount, DType::i32, 4, 8, fixed(4), fixed(8), {val(i)});
  });

  // Cut anywhere, or with any byte changed: refused, or something that runs.
  const writer::Bytes whole = rmsnorm(6, 10, true).bytes();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const writer::Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK_THROWS(PlanError, [&] {
      Cursor in(cut);
      return Kernel::decode(in);
    }());
  }
  for (std::size_t n = 0; n < whole.size(); ++n)
    for (int value = 0; value < 256; value += value < 12 ? 1 : 61) {
      writer::Bytes changed = whole;
      changed[n] = static_cast<std::byte>(value);
      try {
        Cursor in(changed);
        const Kernel k = Kernel::decode(in);
        std::vector<Tensor> tensors;
        std::vector<Arg> args;
        std::size_t elements = 0;
        for (const Param& p : k.params()) {
          if (!p.is_scalar) elements += static_cast<std::size_t>(p.rows) * static_cast<std::size_t>(p.cols);
        }
        if (elements > 20000 || k.scratch_bytes() > 1000000) continue;
        for (const Param& p : k.params()) {
          tensors.push_back(p.is_scalar ? Tensor{} : reference::tensor(p.dtype, p.rows, p.cols, 1));
          Arg a;
          if (p.is_scalar) a.scalar = 1;
          else a = tensors.back().arg();
          args.push_back(a);
        }
        Scratch scratch(k);
        if (k.failed_check(args) == -1) k.run(args, scratch.data);
      } catch (const PlanError&) {
        continue;
      }
    }
}

}  // namespace

int main(int argc, char** argv) {
  const FpEnv env;
  known_kernels();
  loads_keep_their_value();
  stores_wait_where_they_must();
  moving_kernels();
  faults();
  costs_and_checks();
  damaged_kernels();
  random_kernels(argc > 1 ? std::atoi(argv[1]) : 240);
  return check::result();
}
