#include "pto_wsp/arena.hpp"

#include <algorithm>
#include <cstring>
#include <new>

namespace pto_wsp {
namespace {

constexpr std::uint64_t alignment = 64;
constexpr std::uint64_t max_bytes = std::uint64_t{1} << 47;  // more than a process can address
constexpr std::uint64_t max_idle_bytes = std::uint64_t{1} << 22;

std::uint64_t bytes_of(const Buffer& b, DType dtype) {
  Wide bytes = size_of(dtype);
  if (std::ranges::any_of(b.shape, [](std::int64_t n) { return n <= 0; })) return 0;
  for (const std::int64_t n : b.shape) {
    bytes *= n;
    if (bytes > max_bytes) throw std::bad_alloc();
  }
  return (static_cast<std::uint64_t>(bytes) + alignment - 1) / alignment * alignment;
}

bool overlap(std::uint64_t begin, std::uint64_t end, std::uint64_t other_begin, std::uint64_t other_end) {
  return begin < other_end && other_begin < end;
}

}  // namespace

Buffer shape_of(const TensorInfo& t, std::span<const std::int64_t> symbols) {
  Buffer b;
  for (const Affine& dim : t.dims) {
    std::int64_t n = 0;
    b.shape.push_back(evaluate(dim, symbols, n) ? n : 0);
  }
  b.strides.resize(b.shape.size());
  auto stride = static_cast<std::uint64_t>(size_of(t.dtype));
  for (std::size_t d = b.shape.size(); d-- > 0;) {
    b.strides[d] = static_cast<std::int64_t>(stride);
    stride *= static_cast<std::uint64_t>(std::max<std::int64_t>(b.shape[d], 0));
  }
  return b;
}

bool Arena::prepare(const Plan& plan, std::span<const std::int64_t> symbols, std::span<Buffer> buffers, std::uint64_t limit) {
  const std::size_t n = plan.tensors().size();
  bytes_ = 0;
  released_.clear();
  if (std::ranges::none_of(plan.tensors(), &TensorInfo::temporary)) return true;
  live_.clear();
  laid_.clear();
  sizes_.assign(n, 0);
  places_.assign(n, {});
  for (std::size_t i = 0; i < n; ++i) {
    if (!plan.tensors()[i].temporary) continue;
    buffers[i] = shape_of(plan.tensors()[i], symbols);
    sizes_[i] = bytes_of(buffers[i], plan.tensors()[i].dtype);
  }
  std::vector<std::uint32_t> acquired(n, 0);
  for (const Node& node : plan.nodes())
    if (node.kind == NodeKind::acquire) ++acquired[node.id];
  shared_.assign(n, false);
  for (std::uint32_t i = 0; i < n; ++i) {
    shared_[i] = acquired[i] == 1;
    if (plan.tensors()[i].temporary && !shared_[i]) place(i);
  }
  lay_out(plan, plan.root());
  if (bytes_ > limit) return false;
  if (bytes_ > capacity_) {
    give_back();
    data_ = static_cast<std::byte*>(::operator new(bytes_, std::align_val_t{alignment}));
    capacity_ = bytes_;
  }
  for (std::size_t i = 0; i < n; ++i)
    if (plan.tensors()[i].temporary) buffers[i].data = data_ + places_[i].begin;
  return true;
}

// The body of a loop gives back what it takes, so one iteration stands for all, and so do both branches of a condition.
void Arena::lay_out(const Plan& plan, std::uint32_t id) {
  const Node& node = plan.nodes()[id];
  if (node.kind == NodeKind::acquire && shared_[node.id]) place(node.id);
  if (node.kind == NodeKind::release && shared_[node.id])
    std::erase_if(live_, [&](const Place& p) { return p.begin == places_[node.id].begin && p.end == places_[node.id].end; });
  if (node.kind == NodeKind::pipeline) return lay_out_processes(plan, node);
  for (const std::uint32_t child : node.children) lay_out(plan, child);
}

// They are alive at once: what one takes no other may.
void Arena::lay_out_processes(const Plan& plan, const Node& pipeline) {
  const std::vector<Place> before = live_;
  for (const std::uint32_t child : pipeline.children) {
    const std::size_t first = laid_.size();
    lay_out(plan, child);
    for (std::size_t i = first; i < laid_.size(); ++i) live_.insert(std::ranges::upper_bound(live_, laid_[i].begin, {}, &Place::begin), laid_[i]);
  }
  live_ = before;
}

void Arena::place(std::uint32_t tensor) {
  Place p{0, sizes_[tensor]};
  auto after = live_.begin();
  if (sizes_[tensor] != 0) {
    for (; after != live_.end() && after->begin < p.end; ++after) p.begin = std::max(p.begin, after->end), p.end = p.begin + sizes_[tensor];
    live_.insert(after, p);
    laid_.push_back(p);
  }
  places_[tensor] = p;
  bytes_ = std::max(bytes_, p.end);
  if (bytes_ > max_bytes) throw std::bad_alloc();
}

void Arena::release(std::uint32_t tensor, std::uint64_t serial) {
  if (sizes_[tensor] != 0) released_.push_back({places_[tensor], serial});
}

std::uint64_t Arena::acquire(std::uint32_t tensor) {
  const Place& p = places_[tensor];
  std::uint64_t serial = 0;
  // What the tensor takes of a released place is told of again when the tensor is released.
  for (std::size_t i = 0; i < released_.size();) {
    const Released r = released_[i];
    if (!overlap(p.begin, p.end, r.place.begin, r.place.end)) {
      ++i;
      continue;
    }
    serial = std::max(serial, r.serial);
    released_[i] = released_.back();
    released_.pop_back();
    if (r.place.begin < p.begin) released_.push_back({{r.place.begin, p.begin}, r.serial});
    if (p.end < r.place.end) released_.push_back({{p.end, r.place.end}, r.serial});
  }
  return serial;
}

void Arena::clear(std::uint32_t tensor) { std::memset(data_ + places_[tensor].begin, 0, sizes_[tensor]); }

void Arena::trim() {
  if (capacity_ > max_idle_bytes) give_back();
  free_memory(released_);
}

void Arena::give_back() {
  if (data_ != nullptr) ::operator delete(data_, std::align_val_t{alignment});
  data_ = nullptr;
  capacity_ = 0;
}

}  // namespace pto_wsp
