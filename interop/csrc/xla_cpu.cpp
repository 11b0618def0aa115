// The handler of XLA's custom calls on CPUs: one stateless function, whose inputs say which program of ours to run. It knows the core by a
// table of C functions alone, and is compiled with the oldest headers of XLA that are supported, which newer ones accept.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pto_wsp/call_table.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

const PtoWspCallTable* the_core = nullptr;

constexpr std::uint32_t no_dtype = ~std::uint32_t{0};

// Codes of the plan format.
std::uint32_t code_of(ffi::DataType type) {
  switch (type) {
    case ffi::DataType::F32: return 0;
    case ffi::DataType::F16: return 1;
    case ffi::DataType::BF16: return 2;
    case ffi::DataType::S32: return 3;
    case ffi::DataType::PRED: return 4;
    case ffi::DataType::S64: return 5;
    case ffi::DataType::U64: return 6;
    case ffi::DataType::F64: return 7;
    case ffi::DataType::S8: return 8;
    case ffi::DataType::S16: return 9;
    case ffi::DataType::U8: return 10;
    case ffi::DataType::U16: return 11;
    case ffi::DataType::U32: return 12;
    case ffi::DataType::F8E4M3FN: return 13;
    case ffi::DataType::F8E5M2: return 14;
    default: return no_dtype;
  }
}

PtoWspBuffer buffer_of(const ffi::AnyBuffer& b) {
  return {b.untyped_data(), b.dimensions().begin(), b.dimensions().size(), code_of(b.element_type())};
}

// Operands come before results; who is both is a result, in whose memory XLA has put the operand.
ffi::Error run(ffi::RemainingArgs args, ffi::RemainingRets results, std::string_view key, std::string_view artifact, ffi::Span<const std::int64_t> numbers) {
  if (the_core == nullptr) return ffi::Error(ffi::ErrorCode::kFailedPrecondition, "pto_wsp: import pto_wsp_jax before running its programs");
  std::array<PtoWspBuffer, 16> few;
  std::vector<PtoWspBuffer> many;
  const std::size_t n = args.size() + results.size();
  if (n > few.size()) many.resize(n);
  PtoWspBuffer* const buffers = n > few.size() ? many.data() : few.data();
  for (std::size_t i = 0; i < args.size(); ++i) {
    const auto b = args.get<ffi::AnyBuffer>(i);
    if (!b) return b.error();
    buffers[i] = buffer_of(*b);
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    auto b = results.get<ffi::AnyBuffer>(i);
    if (!b) return b.error();
    buffers[args.size() + i] = buffer_of(**b);
  }
  const PtoWspCall call{key.data(), key.size(), artifact.data(), artifact.size(), buffers, n, numbers.begin(), numbers.size()};
  int invalid = 0;
  char* const message = the_core->call(&call, &invalid);
  if (message == nullptr) return ffi::Error::Success();
  const std::string text(message);
  the_core->release(message);
  return ffi::Error(invalid != 0 ? ffi::ErrorCode::kInvalidArgument : ffi::ErrorCode::kInternal, text);
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(pto_wsp_xla_call, run,
                              ffi::Ffi::Bind()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<std::string_view>("key")
                                  .Attr<std::string_view>("artifact")
                                  .Attr<ffi::Span<const std::int64_t>>("numbers"));

// False: the core has another version of the table.
extern "C" int pto_wsp_xla_use_core(const PtoWspCallTable* core) {
  if (core->version != pto_wsp_call_table_version) return 0;
  the_core = core;
  return 1;
}
