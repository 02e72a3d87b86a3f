// Attention without a matrix of scores: a block keeps some queries and their results, and the keys
// and values of its head come by in tiles (Dao, "FlashAttention-2: Faster Attention with Better
// Parallelism and Work Partitioning", 2023; running maxima and sums after Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018). README.md tells the whole design.
//
// A warp owns 16 · TILES queries: its scores, statistics and results stay in its registers, in the
// fragment layout of mma.m16n8k16, and scores become the left operand of the second product without
// leaving them. Maxima, sums and results are f32; exponentials are powers of two.
#pragma once

#include "tiles.cuh"

// Strides are in numbers, for (batch, tokens, heads); the size of a head is dense. Those of the bias
// are for (batch, heads, queries), 0 where it repeats; its keys are dense.
struct AttentionShape {
    int64_t q_strides[3], k_strides[3], v_strides[3], bias_strides[3];
    int32_t queries, keys, heads, size;
    // Of the scores, times log₂ e.
    float scale;
    int32_t is_causal;
    // Whether every row starts at a multiple of 16 bytes and is one long.
    int32_t is_aligned;
};

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float MOST_NEGATIVE = -3.4028234e38f;

// ROWS rows of `columns` numbers each into shared memory, zeros where there are none; of f32 numbers
// both parts, one behind the other. 16-bit numbers of aligned rows come asynchronously.
template <typename T, int ROWS, int COLUMNS, int THREADS>
__device__ __forceinline__ void load_rows(unsigned char *tile, const T *from, int64_t stride, int rows, int columns,
                                          bool is_aligned) {
    using Places = Rows<COLUMNS>;
    constexpr bool IS_F32 = Operand<T>::PARTS == 2;
#pragma unroll 4
    for (int i = threadIdx.x; i < ROWS * Places::PIECES; i += THREADS) {
        const int row = i / Places::PIECES, piece = i % Places::PIECES;
        const int count = row < rows ? columns - piece * 8 : 0;
        unsigned char *to = tile + Places::place(row, piece);
        const T *source = from + (count > 0 ? row * stride + piece * 8 : 0);
        if (!IS_F32 && is_aligned) {
            copy_async16(to, source, count > 0);
            continue;
        }
        float x[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) x[j] = j < count ? to_float(source[j]) : 0.0f;
        store16(to, pack8<T, 0>(x));
        if constexpr (IS_F32) store16(to + ROWS * Places::BYTES, pack8<T, 1>(x));
    }
}

template <typename T, int SIZE, int VALUES, int TILES, int WARPS, int KEYS>
__device__ __forceinline__ void attend(const T *q, const T *k, const T *v, T *out, const float *bias,
                                       const AttentionShape &shape) {
    using N = typename Operand<T>::Number;
    constexpr int PARTS = Operand<T>::PARTS, THREADS = WARPS * 32, QUERIES = WARPS * TILES * 16;
    constexpr int COLUMN_RUNS = SIZE / VALUES;
    using Wide = Rows<SIZE>;
    using Narrow = Rows<VALUES>;
    static_assert(SIZE % 16 == 0 && VALUES % 16 == 0 && KEYS % 16 == 0 && SIZE % VALUES == 0, "whole fragments");

    SHARED_BYTES(shared);
    unsigned char *q_tile = shared;
    unsigned char *k_tile = q_tile + PARTS * QUERIES * Wide::BYTES;
    unsigned char *v_tile = k_tile + PARTS * KEYS * Wide::BYTES;

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int b = blockIdx.z, h = blockIdx.y / COLUMN_RUNS, first_value = blockIdx.y % COLUMN_RUNS * VALUES;
    // Causal blocks with the most keys start first.
    const int first_query = (shape.is_causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * QUERIES;
    q += b * shape.q_strides[0] + int64_t(first_query) * shape.q_strides[1] + h * shape.q_strides[2];
    k += b * shape.k_strides[0] + h * shape.k_strides[2];
    v += b * shape.v_strides[0] + h * shape.v_strides[2] + first_value;
    if (bias) bias += b * shape.bias_strides[0] + h * shape.bias_strides[1];
    const int visible = shape.is_causal ? min(shape.keys, first_query + QUERIES) : shape.keys;

    // Where this lane's row of each 8×8 matrix begins: left operands in the order (rows, rows + 8) for
    // the first eight columns, then for the next; keys in the order columns, columns + 8 for the first
    // eight keys; values are turned on the way: eight keys, the next eight, for the first columns.
    const int matrix = lane / 8, line = lane % 8;
    const int left_row = matrix % 2 * 8 + line, left_piece = matrix / 2;
    const int key_row = matrix / 2 * 8 + line, key_piece = matrix % 2;
    const int value_row = matrix % 2 * 8 + line, value_piece = matrix / 2;
    // What this lane holds of an accumulator: rows g and g + 8, columns 2t and 2t + 1.
    const int g = lane / 4, t = lane % 4;

    float results[TILES][VALUES / 8][4];
    float maxima[TILES][2], sums[TILES][2];
#pragma unroll
    for (int i = 0; i < TILES; ++i) {
#pragma unroll
        for (int j = 0; j < VALUES / 8; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) results[i][j][e] = 0.0f;
        maxima[i][0] = maxima[i][1] = -INFINITE;
        sums[i][0] = sums[i][1] = 0.0f;
    }

    load_rows<T, QUERIES, SIZE, THREADS>(q_tile, q, shape.q_strides[1], shape.queries - first_query, shape.size,
                                         shape.is_aligned);
    load_rows<T, KEYS, SIZE, THREADS>(k_tile, k, shape.k_strides[1], shape.keys, shape.size, shape.is_aligned);
    commit_copies();

    for (int first_key = 0; first_key < visible; first_key += KEYS) {
        // The keys are here, and nobody needs the values of the tile before any more.
        wait_copies<0>();
        __syncthreads();
        load_rows<T, KEYS, VALUES, THREADS>(v_tile, v + first_key * shape.v_strides[1], shape.v_strides[1],
                                            shape.keys - first_key, shape.size - first_value, shape.is_aligned);
        commit_copies();

        float scores[TILES][KEYS / 8][4];
#pragma unroll
        for (int i = 0; i < TILES; ++i)
#pragma unroll
            for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) scores[i][j][e] = 0.0f;
        constexpr int STEPS = SIZE / 16;
#pragma unroll(STEPS <= 8 ? STEPS : 4)
        for (int step = 0; step < STEPS; ++step) {
            uint32_t left[PARTS][TILES][4];
#pragma unroll
            for (int part = 0; part < PARTS; ++part)
#pragma unroll
                for (int i = 0; i < TILES; ++i)
                    ldmatrix_x4(left[part][i],
                                q_tile + part * QUERIES * Wide::BYTES +
                                    Wide::place((warp * TILES + i) * 16 + left_row, step * 2 + left_piece));
#pragma unroll
            for (int j = 0; j < KEYS / 16; ++j) {
                uint32_t right[PARTS][4];
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    ldmatrix_x4(right[part], k_tile + part * KEYS * Wide::BYTES +
                                                 Wide::place(j * 16 + key_row, step * 2 + key_piece));
#pragma unroll
                for (int i = 0; i < TILES; ++i)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        float(&d)[4] = scores[i][2 * j + half];
                        if constexpr (PARTS == 2) {
                            mma<N>(d, left[1][i], right[0][2 * half], right[0][2 * half + 1]);
                            mma<N>(d, left[0][i], right[1][2 * half], right[1][2 * half + 1]);
                        }
                        mma<N>(d, left[0][i], right[0][2 * half], right[0][2 * half + 1]);
                    }
            }
        }

        // The values are here, and nobody needs these keys any more: the next are on their way while
        // the exponentials and the second product are computed.
        wait_copies<0>();
        __syncthreads();
        const int next = first_key + KEYS;
        if (next < visible) {
            load_rows<T, KEYS, SIZE, THREADS>(k_tile, k + next * shape.k_strides[1], shape.k_strides[1],
                                              shape.keys - next, shape.size, shape.is_aligned);
            commit_copies();
        }

        const int warp_query = first_query + warp * TILES * 16;
        const bool is_edge = next > shape.keys || (shape.is_causal && next > warp_query + 1);
#pragma unroll
        for (int i = 0; i < TILES; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int query = warp_query + i * 16 + half * 8 + g;
                float maximum = maxima[i][half];
                // A block's last rows may lie behind the last query: they read its bias and are never written.
                const float *row = bias ? bias + min(query, shape.queries - 1) * shape.bias_strides[2] : nullptr;
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
                    for (int e = 0; e < 2; ++e) {
                        float &score = scores[i][j][2 * half + e];
                        const int key = first_key + j * 8 + 2 * t + e;
                        score *= shape.scale;
                        if (row) {
                            // The most negative f32 is a mask that leaves something of a row of nothing
                            // else; times log₂ e it must not become −∞.
                            const float shift = row[min(key, shape.keys - 1)];
                            score += shift == -INFINITE ? shift : fmaxf(shift * LOG2_E, MOST_NEGATIVE);
                        }
                        if (is_edge && (key >= shape.keys || (shape.is_causal && key > query))) score = -INFINITE;
                        maximum = fmaxf(maximum, score);
                    }
                maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffff, maximum, 1));
                maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffff, maximum, 2));
                // A row that has seen nothing yet stays at zero instead of ∞ − ∞.
                const float base = maximum == -INFINITE ? 0.0f : maximum;
                const float factor = exp2_approx(maxima[i][half] - base);
                maxima[i][half] = maximum;
                float sum = 0.0f;
#pragma unroll
                for (int j = 0; j < KEYS / 8; ++j)
#pragma unroll
                    for (int e = 0; e < 2; ++e) {
                        float &score = scores[i][j][2 * half + e];
                        score = exp2_approx(score - base);
                        sum += score;
                    }
                sums[i][half] = sums[i][half] * factor + sum;
#pragma unroll
                for (int j = 0; j < VALUES / 8; ++j) {
                    results[i][j][2 * half] *= factor;
                    results[i][j][2 * half + 1] *= factor;
                }
            }

        // Two accumulators of eight columns side by side are one left operand of sixteen.
#pragma unroll
        for (int step = 0; step < KEYS / 16; ++step) {
            uint32_t left[PARTS][TILES][4];
#pragma unroll
            for (int i = 0; i < TILES; ++i)
#pragma unroll
                for (int r = 0; r < 4; ++r) {
                    const float low = scores[i][2 * step + r / 2][r % 2 * 2];
                    const float high = scores[i][2 * step + r / 2][r % 2 * 2 + 1];
                    left[0][i][r] = pack2<N>(low, high);
                    if constexpr (PARTS == 2) left[1][i][r] = pack2<N>(remainder_of<N>(low), remainder_of<N>(high));
                }
#pragma unroll
            for (int j = 0; j < VALUES / 16; ++j) {
                uint32_t right[PARTS][4];
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    ldmatrix_x4_trans(right[part], v_tile + part * KEYS * Narrow::BYTES +
                                                       Narrow::place(step * 16 + value_row, j * 2 + value_piece));
#pragma unroll
                for (int i = 0; i < TILES; ++i)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        float(&d)[4] = results[i][2 * j + half];
                        if constexpr (PARTS == 2) {
                            mma<N>(d, left[1][i], right[0][2 * half], right[0][2 * half + 1]);
                            mma<N>(d, left[0][i], right[1][2 * half], right[1][2 * half + 1]);
                        }
                        mma<N>(d, left[0][i], right[0][2 * half], right[0][2 * half + 1]);
                    }
            }
        }
    }

    // (batch, queries, heads, size)
    const int64_t out_stride = int64_t(shape.heads) * shape.size;
    out += (int64_t(b) * shape.queries + first_query) * out_stride + int64_t(h) * shape.size + first_value;
    const int columns = shape.size - first_value;
    // Rows of 16-bit numbers go out by way of this warp's own queries in shared memory, 16 bytes at a
    // time; they are read by nobody else.
    const bool is_staged = PARTS == 1 && shape.is_aligned;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < TILES; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float sum = sums[i][half];
            sum += __shfl_xor_sync(0xffffffff, sum, 1);
            sum += __shfl_xor_sync(0xffffffff, sum, 2);
            // A query that sees nothing gets zeros.
            const float factor = sum == 0.0f ? 0.0f : 1.0f / sum;
            const int row = (warp * TILES + i) * 16 + half * 8 + g;
#pragma unroll
            for (int j = 0; j < VALUES / 8; ++j) {
                const float low = results[i][j][2 * half] * factor, high = results[i][j][2 * half + 1] * factor;
                if (is_staged) {
                    *reinterpret_cast<uint32_t *>(q_tile + Wide::place(row, j) + t * 4) = pack2<N>(low, high);
                } else if (first_query + row < shape.queries) {
                    T *to = out + row * out_stride + j * 8 + 2 * t;
                    if (j * 8 + 2 * t < columns) to[0] = from_float<T>(low);
                    if (j * 8 + 2 * t + 1 < columns) to[1] = from_float<T>(high);
                }
            }
        }
    if (!is_staged) return;
    __syncwarp();
    for (int i = lane; i < TILES * 16 * Narrow::PIECES; i += 32) {
        const int row = warp * TILES * 16 + i / Narrow::PIECES, piece = i % Narrow::PIECES;
        if (first_query + row < shape.queries && piece * 8 < columns)
            store16(out + row * out_stride + piece * 8, load16(q_tile + Wide::place(row, piece)));
    }
}

// The scalars in the order of src/kernels/attention.rs.
#define ATTENTION(name, T, SIZE, VALUES, TILES, WARPS, KEYS)                                                           \
    KERNEL __launch_bounds__(WARPS * 32)                                                                               \
        name(const T *q, const T *k, const T *v, T *out, const float *bias, int64_t q_batch, int64_t q_token,          \
             int64_t q_head, int64_t k_batch, int64_t k_token, int64_t k_head, int64_t v_batch, int64_t v_token,       \
             int64_t v_head, int64_t bias_batch, int64_t bias_head, int64_t bias_query, int32_t queries, int32_t keys, \
             int32_t heads, int32_t size, float scale, int32_t is_causal, int32_t has_bias, int32_t is_aligned) {      \
        const AttentionShape shape{{q_batch, q_token, q_head},                                                         \
                                   {k_batch, k_token, k_head},                                                         \
                                   {v_batch, v_token, v_head},                                                         \
                                   {bias_batch, bias_head, bias_query},                                                \
                                   queries,                                                                            \
                                   keys,                                                                               \
                                   heads,                                                                              \
                                   size,                                                                               \
                                   scale * LOG2_E,                                                                     \
                                   is_causal,                                                                          \
                                   is_aligned};                                                                        \
        attend<T, SIZE, VALUES, TILES, WARPS, KEYS>(q, k, v, out, has_bias ? bias : nullptr, shape);                   \
    }                                                                                                                  \
    REGISTER(name)
