// What a custom call of XLA costs by itself: a handler of one operand and one result that does nothing. The benchmark compiles it where it runs.
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

static ffi::Error nothing(ffi::AnyBuffer, ffi::Result<ffi::AnyBuffer>) { return ffi::Error::Success(); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(pto_wsp_bench_empty, nothing, ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>());
