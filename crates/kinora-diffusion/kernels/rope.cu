// RMS norm of queries or keys, per head or over all heads, and their rotation: one block for each
// token, one warp for each head in turn.
#include "chunks.cuh"

// Two neighbours, read at once.
template <typename T> struct alignas(2 * sizeof(T)) Two {
    T first, second;
};

// x: (sequences, tokens, heads · size), sequences `per_batch` and tokens `per_token` apart.
// out: (sequences, out_tokens, heads · size), of which this part begins at first_token.
// cos, sin: (out_tokens, columns); columns: half of a head for all heads alike, or of the whole row.
// weight: of one head, or of the row when is_row_norm. Neighbouring numbers are a pair, or a number of
// the head's first half and one of the second when is_halves.
template <typename T>
__device__ __forceinline__ void normalize_and_rotate(const T *x, const float *weight, const float *cos,
                                                     const float *sin, T *out, int tokens, int heads, int size,
                                                     int first_token, int out_tokens, int columns, int is_row_norm,
                                                     int is_halves, long long per_batch, long long per_token,
                                                     float eps) {
    const long long sequence = blockIdx.x / tokens;
    const int token = int(blockIdx.x % tokens), lane = int(threadIdx.x) % 32, half = size / 2;
    const int warp = int(threadIdx.x) / 32, warps = int(blockDim.x) / 32;
    x += sequence * per_batch + token * per_token;
    out += (sequence * out_tokens + first_token + token) * heads * size;
    const long long angle = (long long)(first_token + token) * columns;
    float scale = 0.0f;
    if (is_row_norm) {
        float squares = 0.0f;
        for (int i = int(threadIdx.x); i < heads * size; i += int(blockDim.x)) {
            const float number = to_float(x[i]);
            squares += number * number;
        }
        scale = 1.0f / sqrtf(block_sum(squares) / (heads * size) + eps);
    }
    const bool is_paired = !is_halves && reinterpret_cast<uintptr_t>(x) % sizeof(Two<T>) == 0;
    for (int head = warp; head < heads; head += warps) {
        const T *from = x + head * size;
        T *to = out + head * size;
        if (!is_row_norm) {
            float squares = 0.0f;
            for (int i = lane; i < size; i += 32) {
                const float number = to_float(from[i]);
                squares += number * number;
            }
            scale = 1.0f / sqrtf(warp_sum(squares) / size + eps);
        }
        const float *own_weight = weight + (is_row_norm ? head * size : 0);
        const float *own_cos = cos + angle + (columns > half ? head * half : 0);
        const float *own_sin = sin + angle + (columns > half ? head * half : 0);
        for (int pair = lane; pair < half; pair += 32) {
            const int i = is_halves ? pair : 2 * pair, j = is_halves ? pair + half : 2 * pair + 1;
            float real, imaginary;
            if (is_paired) {
                const Two<T> both = *reinterpret_cast<const Two<T> *>(from + i);
                real = to_float(both.first), imaginary = to_float(both.second);
            } else {
                real = to_float(from[i]), imaginary = to_float(from[j]);
            }
            real *= scale * own_weight[i];
            imaginary *= scale * own_weight[j];
            const float c = own_cos[pair], s = own_sin[pair];
            const T turned_real = from_float<T>(real * c - imaginary * s);
            const T turned_imaginary = from_float<T>(imaginary * c + real * s);
            if (is_halves) {
                to[i] = turned_real;
                to[j] = turned_imaginary;
            } else {
                // Heads of the result begin at even places.
                *reinterpret_cast<Two<T> *>(to + i) = {turned_real, turned_imaginary};
            }
        }
    }
}

#define ROPE(T)                                                                                                        \
    KERNEL normalize_and_rotate_##T(const T *x, const float *weight, const float *cos, const float *sin, T *out,       \
                                    int tokens, int heads, int size, int first_token, int out_tokens, int columns,     \
                                    int is_row_norm, int is_halves, long long per_batch, long long per_token,          \
                                    float eps) {                                                                       \
        normalize_and_rotate<T>(x, weight, cos, sin, out, tokens, heads, size, first_token, out_tokens, columns,       \
                                is_row_norm, is_halves, per_batch, per_token, eps);                                    \
    }                                                                                                                  \
    REGISTER(normalize_and_rotate_##T)

ROPE(f32)
ROPE(bf16)
ROPE(f16)
