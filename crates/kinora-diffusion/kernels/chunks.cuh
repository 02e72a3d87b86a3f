// Sixteen bytes at a time: how rows are read and written, and sums over a block of threads.
// Arithmetic is f32 whatever the numbers are stored as.
#pragma once

#include "portable.cuh"

using f32 = float;

// Numbers in 16 bytes.
template <typename T> struct Chunk {
    static constexpr int LEN = 16 / int(sizeof(T));
};

// Whether 16 bytes may be moved at once from here on, row after row.
template <typename T> __device__ __forceinline__ bool is_aligned(const T *at, long long stride) {
    return ((reinterpret_cast<uintptr_t>(at) | uintptr_t(stride * (long long)sizeof(T))) & 15) == 0;
}

// LEN numbers, of which `left` exist; zeros behind them. LEN numbers take a multiple of 16 bytes.
template <int LEN, typename T>
__device__ __forceinline__ void read_chunk(const T *from, int left, bool is_wide, float (&numbers)[LEN]) {
    constexpr int STEP = Chunk<T>::LEN;
    if (is_wide && left >= LEN) {
#pragma unroll
        for (int first = 0; first < LEN; first += STEP) {
            const uint4 raw = load16(from + first);
            T stored[STEP];
            memcpy(stored, &raw, 16);
#pragma unroll
            for (int i = 0; i < STEP; ++i) numbers[first + i] = to_float(stored[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = i < left ? to_float(from[i]) : 0.0f;
    }
}

template <int LEN, typename T>
__device__ __forceinline__ void write_chunk(T *to, int left, bool is_wide, const float (&numbers)[LEN]) {
    static_assert(LEN == Chunk<T>::LEN, "a chunk of another format");
    if (is_wide && left >= LEN) {
        T stored[LEN];
#pragma unroll
        for (int i = 0; i < LEN; ++i) stored[i] = from_float<T>(numbers[i]);
        uint4 raw;
        memcpy(&raw, stored, 16);
        store16(to, raw);
    } else {
#pragma unroll
        for (int i = 0; i < LEN; ++i)
            if (i < left) to[i] = from_float<T>(numbers[i]);
    }
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) value += __shfl_xor_sync(0xffffffff, value, bits);
    return value;
}

// The sum over all threads, for each of them. Blocks are whole warps.
__device__ inline float block_sum(float value) {
    SHARED_ARRAY(float, of_warps, 32);
    value = warp_sum(value);
    // The last call's sums may still be read.
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0.0f;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += of_warps[warp];
    return sum;
}

__device__ inline float block_max(float value) {
    SHARED_ARRAY(float, of_warps, 32);
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, bits));
    __syncthreads();
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
    __syncthreads();
    float most = of_warps[0];
    for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) most = fmaxf(most, of_warps[warp]);
    return most;
}

// The point-wise functions, numbered as in src/kernels/pointwise.rs.
enum Function { NOTHING = 0, SILU = 1, GELU_TANH = 2, GELU_ERF = 3, QUICK_GELU = 4, RELU = 5 };

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float apply(int function, float x) {
    switch (function) {
    case SILU: return x * sigmoid(x);
    // √(2/π)
    case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    // 1/√2
    case GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case QUICK_GELU: return x * sigmoid(1.702f * x);
    case RELU: return x < 0.0f ? 0.0f : x;
    default: return x;
    }
}
