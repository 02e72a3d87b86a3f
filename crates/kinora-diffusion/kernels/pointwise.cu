// What happens to each number alone, beside the numbers of its column, or beside those of another
// tensor: activations, gates, sums. One block for each row where rows matter, so that no thread
// divides.
#include "chunks.cuh"

// Calls step(column) for the chunks of this thread.
template <int LEN, typename Step> __device__ __forceinline__ void for_chunks(int size, Step step) {
    for (int at = int(threadIdx.x) * LEN; at < size; at += int(blockDim.x) * LEN) step(at);
}

// out = f(x) over `count` numbers.
template <typename T>
__device__ __forceinline__ void activate(const T *x, T *out, long long count, int function) {
    constexpr int LEN = Chunk<T>::LEN;
    const bool is_wide = is_aligned(x, 0) && is_aligned(out, 0);
    const long long step = (long long)gridDim.x * blockDim.x * LEN;
    for (long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * LEN; at < count; at += step) {
        const int left = int(min(count - at, (long long)LEN));
        float numbers[LEN];
        read_chunk<LEN>(x + at, left, is_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = apply(function, numbers[i]);
        write_chunk<LEN>(out + at, left, is_wide, numbers);
    }
}

// out = f(gate) · value over rows of `size` that lie `…_stride` apart.
template <typename T>
__device__ __forceinline__ void gate_rows(const T *gate, const T *value, T *out, int size, long long gate_stride,
                                          long long value_stride, int function) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x;
    gate += row * gate_stride;
    value += row * value_stride;
    out += row * size;
    const bool is_wide = is_aligned(gate, 0) && is_aligned(value, 0) && is_aligned(out, 0);
    for_chunks<LEN>(size, [&](int at) {
        float gates[LEN], values[LEN];
        read_chunk<LEN>(gate + at, size - at, is_wide, gates);
        read_chunk<LEN>(value + at, size - at, is_wide, values);
#pragma unroll
        for (int i = 0; i < LEN; ++i) values[i] *= apply(function, gates[i]);
        write_chunk<LEN>(out + at, size - at, is_wide, values);
    });
}

// out = x + gate · y; gate: (groups of rows, size).
template <typename T, typename M>
__device__ __forceinline__ void add_gated(const T *x, const T *y, const M *gate, T *out, int size,
                                          int rows_per_group) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x;
    x += row * size;
    y += row * size;
    out += row * size;
    gate += row / rows_per_group * size;
    const bool is_wide = is_aligned(x, 0) && is_aligned(y, 0) && is_aligned(out, 0), is_gate_wide = is_aligned(gate, 0);
    for_chunks<LEN>(size, [&](int at) {
        float left[LEN], right[LEN], gates[LEN];
        read_chunk<LEN>(x + at, size - at, is_wide, left);
        read_chunk<LEN>(y + at, size - at, is_wide, right);
        read_chunk<LEN>(gate + at, size - at, is_gate_wide, gates);
#pragma unroll
        for (int i = 0; i < LEN; ++i) left[i] += gates[i] * right[i];
        write_chunk<LEN>(out + at, size - at, is_wide, left);
    });
}

// out = x · (1 + scale) + shift; both (groups of rows, size).
template <typename T, typename M>
__device__ __forceinline__ void modulate(const T *x, const M *shift, const M *scale, T *out, int size,
                                         int rows_per_group) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x, group = row / rows_per_group;
    x += row * size;
    out += row * size;
    shift += group * size;
    scale += group * size;
    const bool is_wide = is_aligned(x, 0) && is_aligned(out, 0), are_wide = is_aligned(shift, 0) && is_aligned(scale, 0);
    for_chunks<LEN>(size, [&](int at) {
        float numbers[LEN], shifts[LEN], scales[LEN];
        read_chunk<LEN>(x + at, size - at, is_wide, numbers);
        read_chunk<LEN>(shift + at, size - at, are_wide, shifts);
        read_chunk<LEN>(scale + at, size - at, are_wide, scales);
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = numbers[i] * (1.0f + scales[i]) + shifts[i];
        write_chunk<LEN>(out + at, size - at, is_wide, numbers);
    });
}

// out = x + bias, and plus a residual of x's shape where there is one.
template <typename T, typename M>
__device__ __forceinline__ void add_bias(const T *x, const M *bias, const T *residual, T *out, int size,
                                         int has_bias, int has_residual) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x;
    x += row * size;
    residual += row * size;
    out += row * size;
    const bool is_wide = is_aligned(x, 0) && is_aligned(residual, 0) && is_aligned(out, 0),
               is_bias_wide = is_aligned(bias, 0);
    for_chunks<LEN>(size, [&](int at) {
        float numbers[LEN], more[LEN];
        read_chunk<LEN>(x + at, size - at, is_wide, numbers);
        if (has_bias) {
            read_chunk<LEN>(bias + at, size - at, is_bias_wide, more);
#pragma unroll
            for (int i = 0; i < LEN; ++i) numbers[i] += more[i];
        }
        if (has_residual) {
            read_chunk<LEN>(residual + at, size - at, is_wide, more);
#pragma unroll
            for (int i = 0; i < LEN; ++i) numbers[i] += more[i];
        }
        write_chunk<LEN>(out + at, size - at, is_wide, numbers);
    });
}

// out = [left, f(right)]: rows of `left_size` and `right_size`; those of `right` are columns of wider
// rows, `per_token` apart, and sequences `per_batch` apart.
template <typename T>
__device__ __forceinline__ void join_activated(const T *left, const T *right, T *out, int left_size, int right_size,
                                               int tokens, long long per_batch, long long per_token, int function) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x;
    left += row * left_size;
    right += row / tokens * per_batch + row % tokens * per_token;
    out += row * (left_size + right_size);
    float numbers[LEN];
    const bool is_left_wide = is_aligned(left, 0) && is_aligned(out, 0);
    for_chunks<LEN>(left_size, [&](int at) {
        read_chunk<LEN>(left + at, left_size - at, is_left_wide, numbers);
        write_chunk<LEN>(out + at, left_size - at, is_left_wide, numbers);
    });
    out += left_size;
    const bool is_right_wide = is_aligned(right, 0) && is_aligned(out, 0);
    for_chunks<LEN>(right_size, [&](int at) {
        read_chunk<LEN>(right + at, right_size - at, is_right_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = apply(function, numbers[i]);
        write_chunk<LEN>(out + at, right_size - at, is_right_wide, numbers);
    });
}

// Every pixel four times: one block makes two rows of the result from one of `width`.
template <typename T> __device__ __forceinline__ void enlarge_nearest(const T *x, T *out, int width) {
    const long long row = blockIdx.x;
    x += row * width;
    out += row * 4 * width;
    for (int at = int(threadIdx.x); at < width; at += int(blockDim.x)) {
        const T pixel = x[at];
        T *upper = out + 2 * at, *lower = upper + 2 * width;
        upper[0] = upper[1] = lower[0] = lower[1] = pixel;
    }
}

#define POINTWISE(T)                                                                                                   \
    KERNEL activate_##T(const T *x, T *out, long long count, int function) { activate<T>(x, out, count, function); }   \
    REGISTER(activate_##T)                                                                                             \
    KERNEL gate_rows_##T(const T *gate, const T *value, T *out, int size, long long gate_stride,                       \
                         long long value_stride, int function) {                                                       \
        gate_rows<T>(gate, value, out, size, gate_stride, value_stride, function);                                     \
    }                                                                                                                  \
    REGISTER(gate_rows_##T)                                                                                            \
    KERNEL join_activated_##T(const T *left, const T *right, T *out, int left_size, int right_size, int tokens,        \
                              long long per_batch, long long per_token, int function) {                                \
        join_activated<T>(left, right, out, left_size, right_size, tokens, per_batch, per_token, function);            \
    }                                                                                                                  \
    REGISTER(join_activated_##T)                                                                                       \
    KERNEL enlarge_nearest_##T(const T *x, T *out, int width) { enlarge_nearest<T>(x, out, width); }                   \
    REGISTER(enlarge_nearest_##T)

#define WITH_COLUMNS(T, M)                                                                                             \
    KERNEL add_gated_##T##_##M(const T *x, const T *y, const M *gate, T *out, int size, int rows_per_group) {          \
        add_gated<T, M>(x, y, gate, out, size, rows_per_group);                                                        \
    }                                                                                                                  \
    REGISTER(add_gated_##T##_##M)                                                                                      \
    KERNEL modulate_##T##_##M(const T *x, const M *shift, const M *scale, T *out, int size, int rows_per_group) {      \
        modulate<T, M>(x, shift, scale, out, size, rows_per_group);                                                    \
    }                                                                                                                  \
    REGISTER(modulate_##T##_##M)                                                                                       \
    KERNEL add_bias_##T##_##M(const T *x, const M *bias, const T *residual, T *out, int size, int has_bias,            \
                              int has_residual) {                                                                      \
        add_bias<T, M>(x, bias, residual, out, size, has_bias, has_residual);                                          \
    }                                                                                                                  \
    REGISTER(add_bias_##T##_##M)

POINTWISE(f32)
POINTWISE(bf16)
POINTWISE(f16)
WITH_COLUMNS(f32, f32)
WITH_COLUMNS(bf16, bf16)
WITH_COLUMNS(bf16, f32)
WITH_COLUMNS(f16, f16)
WITH_COLUMNS(f16, f32)
