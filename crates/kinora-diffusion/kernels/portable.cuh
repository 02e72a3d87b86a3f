// The one include of every kernel: CUDA where nvcc compiles it, and a block of threads emulated on
// the processor where a C++17 compiler does (emulator/). A kernel that keeps to the names below runs
// in both, so that its arithmetic and its barriers are tested on machines without a GPU.
//
//   KERNEL name(…) {…}       an entry point, then REGISTER(name) after it (nothing under CUDA)
//   SHARED_BYTES(name)       the launch's dynamic shared memory, as unsigned char *
//   SHARED_ARRAY(T, name, n) a shared array of fixed length
//   threadIdx …, __syncthreads(), __syncwarp(), __shfl_*_sync(), atomicAdd()    as in CUDA
//   bf16, f16                to_float(x), from_float<T>(x); pack2<T>(low, high): two in 32 bits
//   load16(p), store16(p, v) 16 bytes at an aligned address
//   copy_async16(shared, global, is_present), commit_copies(), wait_copies<n>()
//                            cp.async of 16 bytes, zeros when not present; all but the n newest
//                            groups have landed after the wait (for this thread: a barrier follows)
//   ldmatrix_x4(r, row), ldmatrix_x4_trans(r, row)    four 8×8 matrices of 16-bit numbers
//   mma<T>(d, a, b0, b1)     d += a·b, 16×8 += 16×16 · 16×8, f32 sums
//   exp2_approx(x), rsqrt_approx(x)
//
// Plain C++ functions of <cmath> (fmaf, expf, sinf, tanhf, …) work in both. Names that the emulator
// does not know do not compile there: add them to both sides rather than to one.
#pragma once

#ifdef __CUDACC__
#include "device.cuh"
#else
#include "emulator/cuda.h"
#endif
