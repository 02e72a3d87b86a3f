// Norms over the last dimension and softmax: one block for each row, which stays in registers between
// the passes over it.
#include "chunks.cuh"

// Chunks of a row that a thread holds: 1024 threads hold 16384 numbers of f32, 32768 of 16 bits.
#define HELD 4

enum { IS_CENTRED = 1, HAS_GAIN = 2, IS_AROUND_ONE = 4, HAS_SHIFT = 8 };

// out = (x − mean) / √(variance + eps) · gain + shift, or x / √(mean(x²) + eps) · gain + shift when
// not centred; 1 + gain when around one. Gain and shift: (groups of rows, size).
template <typename T, typename M>
__device__ __forceinline__ void normalize(const T *x, const M *gain, const M *shift, T *out, int size,
                                          int rows_per_group, int flags, float eps) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x, group = row / rows_per_group;
    x += row * size;
    out += row * size;
    const bool is_wide = is_aligned(x, size) && is_aligned(out, size);
    float numbers[HELD][LEN];
    float sum = 0.0f;
#pragma unroll
    for (int held = 0; held < HELD; ++held) {
        const int at = int(held * blockDim.x + threadIdx.x) * LEN;
        read_chunk<LEN>(x + at, size - at, is_wide, numbers[held]);
#pragma unroll
        for (int i = 0; i < LEN; ++i) sum += numbers[held][i];
    }
    const float mean = flags & IS_CENTRED ? block_sum(sum) / size : 0.0f;
    float squares = 0.0f;
#pragma unroll
    for (int held = 0; held < HELD; ++held) {
        const int at = int(held * blockDim.x + threadIdx.x) * LEN;
#pragma unroll
        for (int i = 0; i < LEN; ++i)
            if (at + i < size) {
                const float centred = numbers[held][i] - mean;
                squares += centred * centred;
            }
    }
    const float scale = 1.0f / sqrtf(block_sum(squares) / size + eps);
    gain += group * size;
    shift += group * size;
    const bool is_gain_wide = is_aligned(gain, size), is_shift_wide = is_aligned(shift, size);
#pragma unroll
    for (int held = 0; held < HELD; ++held) {
        const int at = int(held * blockDim.x + threadIdx.x) * LEN;
        if (at >= size) break;
        float factors[LEN], offsets[LEN];
        if (flags & HAS_GAIN) read_chunk<LEN>(gain + at, size - at, is_gain_wide, factors);
        if (flags & HAS_SHIFT) read_chunk<LEN>(shift + at, size - at, is_shift_wide, offsets);
#pragma unroll
        for (int i = 0; i < LEN; ++i) {
            float y = (numbers[held][i] - mean) * scale;
            if (flags & HAS_GAIN) y *= flags & IS_AROUND_ONE ? 1.0f + factors[i] : factors[i];
            if (flags & HAS_SHIFT) y += offsets[i];
            numbers[held][i] = y;
        }
        write_chunk<LEN>(out + at, size - at, is_wide, numbers[held]);
    }
}

#define NORMALIZE(T, M)                                                                                                \
    KERNEL normalize_##T##_##M(const T *x, const M *gain, const M *shift, T *out, int size, int rows_per_group,        \
                               int flags, float eps) {                                                                 \
        normalize<T, M>(x, gain, shift, out, size, rows_per_group, flags, eps);                                        \
    }                                                                                                                  \
    REGISTER(normalize_##T##_##M)

NORMALIZE(f32, f32)
NORMALIZE(bf16, bf16)
NORMALIZE(bf16, f32)
NORMALIZE(f16, f16)
NORMALIZE(f16, f32)

// eˣ / Σeˣ over rows of any length.
template <typename T> __device__ __forceinline__ void softmax(const T *x, T *out, int size) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x;
    x += row * size;
    out += row * size;
    const bool is_wide = is_aligned(x, size) && is_aligned(out, size);
    float most = -INFINITE, numbers[LEN];
    const int step = int(blockDim.x) * LEN;
    for (int at = int(threadIdx.x) * LEN; at < size; at += step) {
        read_chunk<LEN>(x + at, size - at, is_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i)
            if (at + i < size) most = fmaxf(most, numbers[i]);
    }
    most = block_max(most);
    float sum = 0.0f;
    for (int at = int(threadIdx.x) * LEN; at < size; at += step) {
        read_chunk<LEN>(x + at, size - at, is_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i)
            if (at + i < size) sum += expf(numbers[i] - most);
    }
    const float scale = 1.0f / block_sum(sum);
    for (int at = int(threadIdx.x) * LEN; at < size; at += step) {
        read_chunk<LEN>(x + at, size - at, is_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = expf(numbers[i] - most) * scale;
        write_chunk<LEN>(out + at, size - at, is_wide, numbers);
    }
}

#define SOFTMAX(T)                                                                                                     \
    KERNEL softmax_##T(const T *x, T *out, int size) { softmax<T>(x, out, size); }                                     \
    REGISTER(softmax_##T)

SOFTMAX(f32)
SOFTMAX(bf16)
SOFTMAX(f16)
