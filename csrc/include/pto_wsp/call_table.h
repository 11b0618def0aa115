/* What the core offers to a library beside it that is called by others with buffers, such as the handler of XLA's custom calls: C
   functions, so that the two need not be built by one compiler. */
#ifndef PTO_WSP_CALL_TABLE_H
#define PTO_WSP_CALL_TABLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this file: the two sides must have the same. */
enum { pto_wsp_call_table_version = 2 };

/* Of what the numbers of a call mean, which come first in them: who made the call may have had another.

     version, threads, and five lists, each a count and its members:
       sources   of each tensor of the plan, which buffer it is; -1: a temporary
       zeroed    buffers that are zeros first
       wide      buffers of integers of 64 bits, which come as pairs of 32
       sizes     of each symbol of the plan
       sized     of each symbol, which buffer holds its size: an integer; -1: `sizes` says it */
enum { pto_wsp_call_version = 1 };

/* Dense and row-major. `dtype`: a code of the plan format. */
typedef struct {
  void* data;
  const int64_t* dims;
  size_t rank;
  uint32_t dtype;
} PtoWspBuffer;

typedef struct {
  const char* key; /* content hash of the artifact */
  size_t key_size;
  const char* artifact;
  size_t artifact_size;
  PtoWspBuffer* buffers; /* of the call: it may change the list */
  size_t n_buffers;
  const int64_t* numbers;
  size_t n_numbers;
} PtoWspCall;

typedef struct {
  uint32_t version;
  /* Runs the program and waits for it, on the calling thread and others. Null: done. Else what went wrong, to be released; `invalid`:
     whether that is what it was called with. Any thread may call it, without the interpreter's lock. */
  char* (*call)(const PtoWspCall* call, int* invalid);
  void (*release)(char* message);
} PtoWspCallTable;

#ifdef __cplusplus
}
#endif

#endif
