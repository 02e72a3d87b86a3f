// Norms of pictures: over groups of channels with all their pixels, and over the channels of a pixel.
#include "chunks.cuh"

// Mean and sum of squares about it of `count` numbers. Joined as by Chan, Golub and LeVeque, 1979, so
// that neither a long group nor a mean far from zero costs digits.
struct Moments {
    float count, mean, squares;
};

__device__ __forceinline__ Moments join(Moments a, Moments b) {
    const float count = a.count + b.count;
    if (count == 0.0f) return a;
    const float apart = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + apart * share, a.squares + b.squares + apart * apart * a.count * share};
}

__device__ __forceinline__ Moments warp_join(Moments moments) {
#pragma unroll
    for (int bits = 16; bits > 0; bits /= 2) {
        const Moments other = {__shfl_xor_sync(0xffffffff, moments.count, bits),
                               __shfl_xor_sync(0xffffffff, moments.mean, bits),
                               __shfl_xor_sync(0xffffffff, moments.squares, bits)};
        moments = join(moments, other);
    }
    return moments;
}

// Moments of each slice of each group: grid (slices · groups), 256 threads; partial: (groups, slices, 3).
template <typename T>
__device__ __forceinline__ void group_moments(const T *x, float *partial, int group_len, int slice_len, int slices) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long group = blockIdx.x / slices;
    const int slice = int(blockIdx.x % slices);
    const int first = slice * slice_len, end = min(group_len, first + slice_len);
    x += group * group_len;
    const bool is_wide = is_aligned(x, group_len) && slice_len % LEN == 0;
    Moments moments = {0.0f, 0.0f, 0.0f};
    for (int at = first + int(threadIdx.x) * LEN; at < end; at += int(blockDim.x) * LEN) {
        const int left = min(end - at, LEN);
        float numbers[LEN];
        read_chunk<LEN>(x + at, left, is_wide, numbers);
        float sum = 0.0f, squares = 0.0f;
#pragma unroll
        for (int i = 0; i < LEN; ++i) sum += numbers[i];
        const float mean = sum / left;
#pragma unroll
        for (int i = 0; i < LEN; ++i)
            if (i < left) squares += (numbers[i] - mean) * (numbers[i] - mean);
        moments = join(moments, {float(left), mean, squares});
    }
    moments = warp_join(moments);
    SHARED_ARRAY(Moments, of_warps, 32);
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = moments;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) moments = join(moments, of_warps[warp]);
        float *to = partial + (group * slices + slice) * 3;
        to[0] = moments.count;
        to[1] = moments.mean;
        to[2] = moments.squares;
    }
}

// Mean and 1/√(variance + eps) of a group from its slices, for every thread of the block.
__device__ inline float2 join_slices(const float *partial, int slices, float eps) {
    SHARED_ARRAY(float2, result, 1);
    if (threadIdx.x < 32) {
        Moments moments = {0.0f, 0.0f, 0.0f};
        for (int slice = int(threadIdx.x); slice < slices; slice += 32) {
            const float *from = partial + slice * 3;
            moments = join(moments, {from[0], from[1], from[2]});
        }
        moments = warp_join(moments);
        if (threadIdx.x == 0) result[0] = {moments.mean, 1.0f / sqrtf(moments.squares / moments.count + eps)};
    }
    __syncthreads();
    return result[0];
}

// grid (parts · groups of all images): part_len numbers of a group each; per_group channels of `pixels`.
template <typename T>
__device__ __forceinline__ void group_norm(const T *x, const float *partial, const float *weight, const float *bias,
                                           T *out, int groups, int per_group, int pixels, int slices, int parts,
                                           int part_len, int function, float eps) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long group = blockIdx.x / parts;
    const int part = int(blockIdx.x % parts), group_len = per_group * pixels;
    const float2 moments = join_slices(partial + group * slices * 3, slices, eps);
    x += group * group_len;
    out += group * group_len;
    const int first_channel = int(group % groups) * per_group;
    const int first = part * part_len, end = min(group_len, first + part_len);
    // A chunk lies in one channel, then.
    const bool is_wide = is_aligned(x, pixels) && is_aligned(out, pixels) && part_len % LEN == 0;
    for (int at = first + int(threadIdx.x) * LEN; at < end; at += int(blockDim.x) * LEN) {
        float numbers[LEN];
        read_chunk<LEN>(x + at, end - at, is_wide, numbers);
        int channel = first_channel + at / pixels;
        float factor = moments.y * weight[channel], offset = bias[channel] - moments.x * factor;
#pragma unroll
        for (int i = 0; i < LEN; ++i) {
            if (!is_wide && at + i < end) {
                channel = first_channel + (at + i) / pixels;
                factor = moments.y * weight[channel];
                offset = bias[channel] - moments.x * factor;
            }
            numbers[i] = apply(function, numbers[i] * factor + offset);
        }
        write_chunk<LEN>(out + at, end - at, is_wide, numbers);
    }
}

// The norm of pixels over their channels: 32 × 8 threads take a chunk of pixels each and every eighth
// channel. grid (blocks of pixels · images).
template <typename T>
__device__ __forceinline__ void channel_norm(const T *x, const float *gamma, const float *beta, T *out, int channels,
                                             int pixels, int blocks, int has_beta, int function, float eps,
                                             float shortest) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long image = blockIdx.x / blocks;
    const int at = (int(blockIdx.x % blocks) * 32 + int(threadIdx.x)) * LEN;
    const int left = pixels - at;
    x += image * channels * pixels + at;
    out += image * channels * pixels + at;
    const bool is_wide = is_aligned(x, pixels) && is_aligned(out, pixels);
    float squares[LEN], numbers[LEN];
#pragma unroll
    for (int i = 0; i < LEN; ++i) squares[i] = 0.0f;
    for (int channel = int(threadIdx.y); channel < channels; channel += 8) {
        read_chunk<LEN>(x + (long long)channel * pixels, left, is_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i) squares[i] += numbers[i] * numbers[i];
    }
    SHARED_ARRAY(float, sums, 8 * 32 * 8);
#pragma unroll
    for (int i = 0; i < LEN; ++i) sums[(threadIdx.y * LEN + i) * 32 + threadIdx.x] = squares[i];
    __syncthreads();
    float scales[LEN];
#pragma unroll
    for (int i = 0; i < LEN; ++i) {
        float sum = 0.0f;
        for (int share = 0; share < 8; ++share) sum += sums[(share * LEN + i) * 32 + threadIdx.x];
        // Either the mean of the squares with something added, or a length that is cut off below.
        scales[i] = shortest > 0.0f ? sqrtf(float(channels)) / fmaxf(sqrtf(sum), shortest)
                                    : 1.0f / sqrtf(sum / channels + eps);
    }
    for (int channel = int(threadIdx.y); channel < channels; channel += 8) {
        const long long line = (long long)channel * pixels;
        const float factor = gamma[channel], offset = has_beta ? beta[channel] : 0.0f;
        read_chunk<LEN>(x + line, left, is_wide, numbers);
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = apply(function, numbers[i] * scales[i] * factor + offset);
        write_chunk<LEN>(out + line, left, is_wide, numbers);
    }
}

#define GROUPS(T)                                                                                                      \
    KERNEL group_moments_##T(const T *x, float *partial, int group_len, int slice_len, int slices) {                   \
        group_moments<T>(x, partial, group_len, slice_len, slices);                                                    \
    }                                                                                                                  \
    REGISTER(group_moments_##T)                                                                                        \
    KERNEL group_norm_##T(const T *x, const float *partial, const float *weight, const float *bias, T *out,            \
                          int groups, int per_group, int pixels, int slices, int parts, int part_len, int function,    \
                          float eps) {                                                                                 \
        group_norm<T>(x, partial, weight, bias, out, groups, per_group, pixels, slices, parts, part_len, function,     \
                      eps);                                                                                            \
    }                                                                                                                  \
    REGISTER(group_norm_##T)                                                                                           \
    KERNEL channel_norm_##T(const T *x, const float *gamma, const float *beta, T *out, int channels, int pixels,       \
                            int blocks, int has_beta, int function, float eps, float shortest) {                       \
        channel_norm<T>(x, gamma, beta, out, channels, pixels, blocks, has_beta, function, eps, shortest);             \
    }                                                                                                                  \
    REGISTER(channel_norm_##T)

GROUPS(f32)
GROUPS(bf16)
GROUPS(f16)
