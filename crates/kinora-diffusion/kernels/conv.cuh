// Convolution as a product of matrices whose right side is never built: outputs × (inputs · taps)
// times (inputs · taps) × pixels, for pictures and for frames that come one after another (Chetlur et
// al., "cuDNN: Efficient Primitives for Deep Learning", 2014, for the idea). README.md tells the
// whole design.
//
// A block makes 128 pixels, a rectangle of one image, of some outputs. The pixels under it and
// around it, of a few channels, lie in shared memory with the channels of a pixel beside each other:
// turned once on the way in from (channels, height, width), they serve every tap of the kernel, for
// a tap is only another first row for ldmatrix. Weights are packed once, when a layer is loaded, as
//     (parts, chunks of channels, taps, outputs, channels of a chunk)
// with the chunks of a kernel's frames one after another: a tap's tile is one piece of memory.
//
// A result is one chain of additions over chunks and taps, whatever lies beside it: the same bits
// however frames are cut into runs.
#pragma once

#include "tiles.cuh"

struct ConvShape {
    // Of x: pictures, or frames of which results `i` sees `i · time_step − reach` and those after it.
    int32_t inputs, height, width;
    int32_t outputs, out_height, out_width;
    // Of the kernel.
    int32_t frames, rows, columns;
    int32_t step, time_step, reach;
    int32_t top, left;
    // 1 when the pixels of x are seen twice as large.
    int32_t enlargement;
    // Whether the pixels mirror at the edges, without the outermost; zeros otherwise.
    int32_t is_reflected;
    // Numbers between the biases of two images.
    int32_t bias_stride;
    // Logarithm of the width of a block's rectangle.
    int32_t tile_shift;
};

constexpr int CONV_PIXELS = 128, CONV_WARPS = 8, CONV_THREADS = CONV_WARPS * 32;
// Tiles of weights in shared memory: one in use, two on their way.
constexpr int CONV_STAGES = 3;
// Pieces of the next pixels that a thread keeps on their way while it multiplies.
constexpr int CONV_SLOTS = 2;

// Rows of two or four pieces of 16 bytes, permuted so that any eight rows that follow each other have
// the same piece in different banks.
template <int PIECES> __device__ __forceinline__ int narrow_place(int row, int piece) {
    static_assert(PIECES == 2 || PIECES == 4, "narrow rows");
    return (row * PIECES + (piece ^ ((row / (8 / PIECES)) & (PIECES - 1)))) * 16;
}

// A place on an axis of `size`, mirrored; −1 where nothing is.
__device__ __forceinline__ int place_on(int at, int size, bool is_reflected) {
    if (is_reflected) {
        at = at < 0 ? -at : at;
        at = min(at, 2 * (size - 1) - at);
    }
    return at >= 0 && at < size ? at : -1;
}

template <typename T> __device__ __forceinline__ void store_pair(T *to, float low, float high);
template <> __device__ __forceinline__ void store_pair<float>(float *to, float low, float high) {
    *reinterpret_cast<float2 *>(to) = make_float2(low, high);
}
template <> __device__ __forceinline__ void store_pair<bf16>(bf16 *to, float low, float high) {
    *reinterpret_cast<uint32_t *>(to) = pack2<bf16>(low, high);
}
template <> __device__ __forceinline__ void store_pair<f16>(f16 *to, float low, float high) {
    *reinterpret_cast<uint32_t *>(to) = pack2<f16>(low, high);
}

// `past` holds the `reach` frames before x, or is null when there are none; `residual`, of the
// result's shape, is added when it is not null.
template <typename T, int OUTPUT_TILES, int OUTPUT_WARPS>
__device__ __forceinline__ void convolve(const T *x, const T *past, const typename Operand<T>::Number *weights,
                                         const float *bias, const T *residual, T *out, const ConvShape &shape) {
    using N = typename Operand<T>::Number;
    constexpr int PARTS = Operand<T>::PARTS;
    // f32 numbers take two parts: as many bytes for half as many channels.
    constexpr int CHANNELS = 32 / PARTS, PIECES = CHANNELS / 8;
    constexpr int OUTPUTS = OUTPUT_WARPS * OUTPUT_TILES * 16;
    constexpr int PIXEL_WARPS = CONV_WARPS / OUTPUT_WARPS, PIXEL_TILES = CONV_PIXELS / PIXEL_WARPS / 16;
    constexpr int WEIGHT_BYTES = OUTPUTS * CHANNELS * 2, STAGE_BYTES = PARTS * WEIGHT_BYTES;

    const int tile_width = 1 << shape.tile_shift, tile_height = CONV_PIXELS >> shape.tile_shift;
    const int patch_width = (tile_width - 1) * shape.step + shape.columns;
    const int patch_height = (tile_height - 1) * shape.step + shape.rows;
    const int patch_pixels = patch_width * patch_height;
    const int part_bytes = patch_pixels * CHANNELS * 2, patch_bytes = PARTS * part_bytes;

    SHARED_BYTES(shared);
    unsigned char *patches = shared + CONV_STAGES * STAGE_BYTES;

    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int output_warp = warp % OUTPUT_WARPS, pixel_warp = warp / OUTPUT_WARPS;
    // Blocks that see the same pixels run beside each other.
    const int output_blocks = (shape.outputs + OUTPUTS - 1) / OUTPUTS;
    const int first_output = int(blockIdx.x % output_blocks) * OUTPUTS;
    const int tile = blockIdx.x / output_blocks, image = blockIdx.z;
    const int tiles_across = (shape.out_width + tile_width - 1) >> shape.tile_shift;
    const int first_y = tile / tiles_across * tile_height, first_x = tile % tiles_across * tile_width;

    const int64_t plane = int64_t(shape.height) * shape.width;
    const int chunks = (shape.inputs + CHANNELS - 1) / CHANNELS, all_chunks = chunks * shape.frames;
    const int taps = shape.rows * shape.columns;
    // Frames before the first: nothing is added for them.
    const int first_frame = image * shape.time_step - shape.reach;
    const int first_chunk = past || first_frame >= 0 ? 0 : min(-first_frame, shape.frames) * chunks;
    const int steps = (all_chunks - first_chunk) * taps;
    const int64_t part_numbers = int64_t(all_chunks) * taps * shape.outputs * CHANNELS;

    // The weights of step i into their stage.
    auto load_weights = [&](int i) {
        if (i < steps) {
            unsigned char *stage = shared + i % CONV_STAGES * STAGE_BYTES;
            const N *from = weights + ((int64_t(first_chunk) * taps + i) * shape.outputs + first_output) * CHANNELS;
#pragma unroll
            for (int part = 0; part < PARTS; ++part)
#pragma unroll
                for (int piece = threadIdx.x; piece < OUTPUTS * PIECES; piece += CONV_THREADS) {
                    const int row = piece / PIECES;
                    const bool is_present = first_output + row < shape.outputs;
                    copy_async16(stage + part * WEIGHT_BYTES + narrow_place<PIECES>(row, piece % PIECES),
                                 is_present ? from + part * part_numbers + piece * 8 : weights, is_present);
                }
        }
        commit_copies();
    };

    // Eight channels of one pixel of a chunk's patch; neighbours in a warp take neighbours in a row.
    const int items = patch_pixels * PIECES;
    auto fetch = [&](int chunk, int item, T(&numbers)[8]) {
        const int pixel = item % patch_pixels, channel = chunk % chunks * CHANNELS + item / patch_pixels * 8;
        const int y = place_on(first_y * shape.step - shape.top + pixel / patch_width,
                               shape.height << shape.enlargement, shape.is_reflected);
        const int column = place_on(first_x * shape.step - shape.left + pixel % patch_width,
                                    shape.width << shape.enlargement, shape.is_reflected);
        const int frame = first_frame + chunk / chunks;
        const T *from = frame >= 0 ? x + frame * (shape.inputs * plane)
                                   : past + (frame + shape.reach) * (shape.inputs * plane);
        const bool is_inside = y >= 0 && column >= 0;
        from += channel * plane;
        if (is_inside) from += int64_t(y >> shape.enlargement) * shape.width + (column >> shape.enlargement);
#pragma unroll
        for (int j = 0; j < 8; ++j)
            numbers[j] = is_inside && channel + j < shape.inputs ? from[j * plane] : from_float<T>(0.0f);
    };
    auto keep = [&](int chunk, int item, const T(&numbers)[8]) {
        float values[8];
#pragma unroll
        for (int j = 0; j < 8; ++j) values[j] = to_float(numbers[j]);
        unsigned char *to = patches + chunk % 2 * patch_bytes + narrow_place<PIECES>(item % patch_pixels, item / patch_pixels);
        store16(to, pack8<T, 0>(values));
        if constexpr (PARTS == 2) store16(to + part_bytes, pack8<T, 1>(values));
    };

    // Where this lane's row of each 8×8 matrix begins, as in attention.cuh: weights are left operands,
    // pixels take the place of keys.
    const int matrix = lane / 8, line = lane % 8;
    const int left_row = output_warp * OUTPUT_TILES * 16 + matrix % 2 * 8 + line, left_piece = matrix / 2;
    const int right_piece = matrix % 2;
    int right_pixel[PIXEL_TILES];
#pragma unroll
    for (int j = 0; j < PIXEL_TILES; ++j) {
        const int n = (pixel_warp * PIXEL_TILES + j) * 16 + matrix / 2 * 8 + line;
        right_pixel[j] = ((n >> shape.tile_shift) * patch_width + (n & (tile_width - 1))) * shape.step;
    }

    float sums[OUTPUT_TILES][PIXEL_TILES * 2][4];
#pragma unroll
    for (int i = 0; i < OUTPUT_TILES; ++i)
#pragma unroll
        for (int j = 0; j < PIXEL_TILES * 2; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0.0f;

    load_weights(0);
    load_weights(1);
    if (steps > 0)
        for (int item = threadIdx.x; item < items; item += CONV_THREADS) {
            T numbers[8];
            fetch(first_chunk, item, numbers);
            keep(first_chunk, item, numbers);
        }

    // While a chunk is multiplied, tap by tap, each tap brings its share of the next one.
    const int share = (items + taps * CONV_THREADS - 1) / (taps * CONV_THREADS);
    int chunk = first_chunk, tap = 0, tap_row = 0, tap_column = 0;
    for (int i = 0; i < steps; ++i) {
        // The weights of this step are here, those of the step before are needed no more; at a
        // chunk's first tap the same goes for its pixels.
        wait_copies<1>();
        __syncthreads();
        load_weights(i + 2);

        const bool has_next = chunk + 1 < all_chunks;
        const int first_item = tap * share * CONV_THREADS + int(threadIdx.x);
        T numbers[CONV_SLOTS][8];
#pragma unroll
        for (int slot = 0; slot < CONV_SLOTS; ++slot) {
            const int item = first_item + slot * CONV_THREADS;
            if (has_next && slot < share && item < items) fetch(chunk + 1, item, numbers[slot]);
        }

        const unsigned char *stage = shared + i % CONV_STAGES * STAGE_BYTES;
        const unsigned char *patch = patches + chunk % 2 * patch_bytes;
        const int shift = tap_row * patch_width + tap_column;
#pragma unroll
        for (int k = 0; k < CHANNELS / 16; ++k) {
            uint32_t left[PARTS][OUTPUT_TILES][4];
#pragma unroll
            for (int part = 0; part < PARTS; ++part)
#pragma unroll
                for (int m = 0; m < OUTPUT_TILES; ++m)
                    ldmatrix_x4(left[part][m], stage + part * WEIGHT_BYTES +
                                                   narrow_place<PIECES>(left_row + m * 16, k * 2 + left_piece));
#pragma unroll
            for (int j = 0; j < PIXEL_TILES; ++j) {
                uint32_t right[PARTS][4];
#pragma unroll
                for (int part = 0; part < PARTS; ++part)
                    ldmatrix_x4(right[part], patch + part * part_bytes +
                                                 narrow_place<PIECES>(right_pixel[j] + shift, k * 2 + right_piece));
#pragma unroll
                for (int m = 0; m < OUTPUT_TILES; ++m)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        float(&d)[4] = sums[m][2 * j + half];
                        if constexpr (PARTS == 2) {
                            mma<N>(d, left[1][m], right[0][2 * half], right[0][2 * half + 1]);
                            mma<N>(d, left[0][m], right[1][2 * half], right[1][2 * half + 1]);
                        }
                        mma<N>(d, left[0][m], right[0][2 * half], right[0][2 * half + 1]);
                    }
            }
        }

#pragma unroll
        for (int slot = 0; slot < CONV_SLOTS; ++slot) {
            const int item = first_item + slot * CONV_THREADS;
            if (has_next && slot < share && item < items) keep(chunk + 1, item, numbers[slot]);
        }
        // Kernels with few taps and wide steps.
        for (int slot = CONV_SLOTS; slot < share; ++slot) {
            const int item = first_item + slot * CONV_THREADS;
            if (!has_next || item >= items) break;
            fetch(chunk + 1, item, numbers[0]);
            keep(chunk + 1, item, numbers[0]);
        }
        if (++tap_column == shape.columns) {
            tap_column = 0;
            ++tap_row;
        }
        if (++tap == taps) {
            tap = tap_row = tap_column = 0;
            ++chunk;
        }
    }

    const int g = lane / 4, t = lane % 4;
    const int64_t out_plane = int64_t(shape.out_height) * shape.out_width;
    const int64_t first = int64_t(image) * shape.outputs * out_plane;
    // Pairs of pixels then start at multiples of their size.
    const bool is_paired = shape.out_width % 2 == 0;
#pragma unroll
    for (int m = 0; m < OUTPUT_TILES; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output = first_output + (output_warp * OUTPUT_TILES + m) * 16 + half * 8 + g;
            if (output >= shape.outputs) continue;
            const float shift = bias[int64_t(image) * shape.bias_stride + output];
#pragma unroll
            for (int j = 0; j < PIXEL_TILES * 2; ++j) {
                const int n = pixel_warp * PIXEL_TILES * 16 + j * 8 + 2 * t;
                const int y = first_y + (n >> shape.tile_shift), column = first_x + (n & (tile_width - 1));
                if (y >= shape.out_height || column >= shape.out_width) continue;
                const int64_t at = first + output * out_plane + int64_t(y) * shape.out_width + column;
                const bool has_second = column + 1 < shape.out_width;
                float low = sums[m][j][2 * half] + shift, high = sums[m][j][2 * half + 1] + shift;
                if (residual) {
                    low += to_float(residual[at]);
                    if (has_second) high += to_float(residual[at + 1]);
                }
                if (is_paired) {
                    store_pair(out + at, low, high);
                } else {
                    out[at] = from_float<T>(low);
                    if (has_second) out[at + 1] = from_float<T>(high);
                }
            }
        }
}

// The scalars in the order of src/kernels/conv.rs.
#define CONVOLUTION(name, T, OUTPUT_TILES, OUTPUT_WARPS, BLOCKS)                                                       \
    KERNEL __launch_bounds__(CONV_THREADS, BLOCKS)                                                                     \
        name(const T *x, const T *past, const Operand<T>::Number *weights, const float *bias, const T *residual,       \
             T *out, int32_t inputs, int32_t height, int32_t width, int32_t outputs, int32_t out_height,               \
             int32_t out_width, int32_t frames, int32_t rows, int32_t columns, int32_t step, int32_t time_step,        \
             int32_t reach, int32_t top, int32_t left, int32_t enlargement, int32_t is_reflected, int32_t bias_stride, \
             int32_t tile_shift, int32_t has_past, int32_t has_residual) {                                             \
        const ConvShape shape{inputs,    height,      width, outputs, out_height, out_width,   frames,                 \
                              rows,      columns,     step,  time_step, reach,    top,         left,                   \
                              enlargement, is_reflected, bias_stride, tile_shift};                                     \
        convolve<T, OUTPUT_TILES, OUTPUT_WARPS>(x, has_past ? past : nullptr, weights, bias,                           \
                                                has_residual ? residual : nullptr, out, shape);                        \
    }                                                                                                                  \
    REGISTER(name)
