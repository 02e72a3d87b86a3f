// Matrices as they lie in their files, widened row by row on the way to a product. The blocks are
// those of ggml (ggml-common.h); the plain reading of every format, against which this is tested, is
// kinora-weights/src/decode.
#include "chunks.cuh"

// Numbered as in src/kernels/dequantise.rs.
enum Format {
    F16 = 0, I8 = 1, F8_E4M3 = 2, F8_E5M2 = 3, Q4_0 = 4, Q4_1 = 5, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, IQ4_NL = 9,
    MXFP4 = 10, Q2_K = 11, Q3_K = 12, Q4_K = 13, Q5_K = 14, Q6_K = 15, Q8_K = 16, IQ4_XS = 17, BF16 = 18, F32 = 19
};

using byte = unsigned char;

__device__ __forceinline__ float number_of(unsigned bits) {
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

// Blocks begin at odd places: numbers of several bytes are put together.
__device__ __forceinline__ float half_at(const byte *at) {
    const unsigned short bits = (unsigned short)(at[0] | at[1] << 8);
    f16 number;
    memcpy(&number, &bits, 2);
    return to_float(number);
}

__device__ __forceinline__ unsigned word_at(const byte *at) {
    return unsigned(at[0]) | unsigned(at[1]) << 8 | unsigned(at[2]) << 16 | unsigned(at[3]) << 24;
}

// OCP 8-bit floats: exponents of 4 bits and no infinities; of 5 bits, the upper half of f16.
__device__ __forceinline__ float e4m3(byte bits) {
    const unsigned sign = unsigned(bits & 0x80) << 24, exponent = bits >> 3 & 15, mantissa = bits & 7;
    if (exponent == 15 && mantissa == 7) return number_of(0x7fc00000u);
    const float magnitude =
        exponent == 0 ? float(mantissa) / 512.0f : number_of((exponent + 120) << 23 | mantissa << 20);
    return sign ? -magnitude : magnitude;
}

__device__ __forceinline__ float e5m2(byte bits) {
    const byte both[2] = {0, bits};
    return half_at(both);
}

__device__ __forceinline__ float e8m0(byte bits) {
    if (bits == 0xff) return number_of(0x7fc00000u);
    return number_of(bits == 0 ? 1u << 22 : unsigned(bits) << 23);
}

// Sixteen levels of 4 bits, for values that lie about zero.
__device__ __forceinline__ float non_linear(int level) {
    const signed char levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return float(levels[level]);
}

// 1 bit of sign, 2 of exponent, 1 of mantissa: twice the value.
__device__ __forceinline__ float twice_e2m1(int level) {
    const signed char levels[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    const float magnitude = float(levels[level & 7]);
    return level & 8 ? -magnitude : magnitude;
}

// The first 16 numbers of a block of 32 are in the low halves of its bytes.
__device__ __forceinline__ int nibble(const byte *packed, int index) {
    return index < 16 ? packed[index] & 15 : packed[index - 16] >> 4;
}

// Scale and least level of a group of 32 in Q4_K and Q5_K: 6 bits each, the upper ones of the last four
// groups above those of the first four.
__device__ __forceinline__ float scaled(const byte *scales, int group, float level, float scale, float least) {
    int own_scale, own_least;
    if (group < 4) {
        own_scale = scales[group] & 63, own_least = scales[group + 4] & 63;
    } else {
        own_scale = (scales[group + 4] & 15) | scales[group - 4] >> 6 << 4;
        own_least = scales[group + 4] >> 4 | scales[group] >> 6 << 4;
    }
    return scale * float(own_scale) * level - least * float(own_least);
}

// Number `index` of a row.
__device__ __forceinline__ float decode(int format, const byte *row, int index) {
    const int small = index / 32, in_small = index % 32, large = index / 256, in_large = index % 256;
    switch (format) {
    case F16: return half_at(row + 2 * index);
    case BF16: return number_of(unsigned(row[2 * index]) << 16 | unsigned(row[2 * index + 1]) << 24);
    case F32: return number_of(word_at(row + 4 * index));
    case I8: return float((signed char)row[index]);
    case F8_E4M3: return e4m3(row[index]);
    case F8_E5M2: return e5m2(row[index]);
    case Q4_0: {
        const byte *block = row + small * 18;
        return half_at(block) * float(nibble(block + 2, in_small) - 8);
    }
    case Q4_1: {
        const byte *block = row + small * 20;
        return half_at(block) * float(nibble(block + 4, in_small)) + half_at(block + 2);
    }
    case Q5_0: {
        const byte *block = row + small * 22;
        const int level = nibble(block + 6, in_small) | int(word_at(block + 2) >> in_small & 1) << 4;
        return half_at(block) * float(level - 16);
    }
    case Q5_1: {
        const byte *block = row + small * 24;
        const int level = nibble(block + 8, in_small) | int(word_at(block + 4) >> in_small & 1) << 4;
        return half_at(block) * float(level) + half_at(block + 2);
    }
    case Q8_0: {
        const byte *block = row + small * 34;
        return half_at(block) * float((signed char)block[2 + in_small]);
    }
    case IQ4_NL: {
        const byte *block = row + small * 18;
        return half_at(block) * non_linear(nibble(block + 2, in_small));
    }
    case MXFP4: {
        const byte *block = row + small * 17;
        return e8m0(block[0]) * 0.5f * twice_e2m1(nibble(block + 1, in_small));
    }
    case Q2_K: {
        const byte *block = row + (long long)large * 84;
        const int group = in_large / 16, shift = group % 8 / 2 * 2;
        const int level = block[16 + group / 8 * 32 + group % 2 * 16 + in_large % 16] >> shift & 3;
        return half_at(block + 80) * float(block[group] & 15) * float(level) -
               half_at(block + 82) * float(block[group] >> 4);
    }
    case Q3_K: {
        const byte *block = row + (long long)large * 110, *scales = block + 96;
        const int group = in_large / 16, shift = group % 8 / 2 * 2, column = group % 2 * 16 + in_large % 16;
        const int low = scales[group % 8] >> (group / 8 * 4) & 15, upper = scales[8 + group % 4] >> (group / 4 * 2) & 3;
        const int level = (block[32 + group / 8 * 32 + column] >> shift & 3) - (block[column] >> (group / 2) & 1 ? 0 : 4);
        return half_at(block + 108) * float((low | upper << 4) - 32) * float(level);
    }
    case Q4_K: {
        const byte *block = row + (long long)large * 144;
        const int group = in_large / 32;
        const int level = block[16 + group / 2 * 32 + in_small] >> (group % 2 * 4) & 15;
        return scaled(block + 4, group, float(level), half_at(block), half_at(block + 2));
    }
    case Q5_K: {
        const byte *block = row + (long long)large * 176;
        const int group = in_large / 32;
        const int level =
            (block[48 + group / 2 * 32 + in_small] >> (group % 2 * 4) & 15) | (block[16 + in_small] >> group & 1) << 4;
        return scaled(block + 4, group, float(level), half_at(block), half_at(block + 2));
    }
    case Q6_K: {
        const byte *block = row + (long long)large * 210;
        const int half = in_large / 128, quarter = in_large % 128 / 32;
        const int low = block[half * 64 + quarter % 2 * 32 + in_small] >> (quarter / 2 * 4) & 15;
        const int high = block[128 + half * 32 + in_small] >> (quarter * 2) & 3;
        return half_at(block + 208) * float((signed char)block[192 + in_large / 16]) * float((low | high << 4) - 32);
    }
    case Q8_K: {
        const byte *block = row + (long long)large * 292;
        return number_of(word_at(block)) * float((signed char)block[4 + in_large]);
    }
    case IQ4_XS: {
        const byte *block = row + (long long)large * 136;
        const int group = in_large / 32, upper = block[2] | block[3] << 8;
        const int level = (block[4 + group / 2] >> (group % 2 * 4) & 15) | (upper >> (2 * group) & 3) << 4;
        return half_at(block) * float(level - 32) * non_linear(nibble(block + 8 + group * 16, in_small));
    }
    default: return 0.0f;
    }
}

// Rows of `size` numbers in `row_bytes` each, times one scale of all (1) or of each row (2), as rows
// from `first` on of out.
template <typename T>
__device__ __forceinline__ void dequantise(const byte *stored, const float *scales, T *out, int format, int size,
                                           long long row_bytes, int scaling, long long first) {
    constexpr int LEN = Chunk<T>::LEN;
    const long long row = blockIdx.x;
    stored += row * row_bytes;
    out += (first + row) * size;
    const float scale = scaling == 0 ? 1.0f : scales[scaling == 1 ? 0 : row];
    const bool is_wide = is_aligned(out, 0);
    for (int at = int(threadIdx.x) * LEN; at < size; at += int(blockDim.x) * LEN) {
        float numbers[LEN];
#pragma unroll
        for (int i = 0; i < LEN; ++i) numbers[i] = at + i < size ? decode(format, stored, at + i) * scale : 0.0f;
        write_chunk<LEN>(out + at, size - at, is_wide, numbers);
    }
}

#define DEQUANTISE(T)                                                                                                  \
    KERNEL dequantise_##T(const byte *stored, const float *scales, T *out, int format, int size, long long row_bytes,  \
                          int scaling, long long first) {                                                              \
        dequantise<T>(stored, scales, out, format, size, row_bytes, scaling, first);                                   \
    }                                                                                                                  \
    REGISTER(dequantise_##T)

DEQUANTISE(f32)
DEQUANTISE(bf16)
DEQUANTISE(f16)
