// What attention and convolution share: rows of 16-bit numbers in shared memory where ldmatrix finds
// them without bank conflicts, and f32 numbers as sums of two bf16 for tensor cores.
#pragma once

#include "portable.cuh"

// What tensor cores multiply for numbers of type T. An f32 number x is high + low with
// high = bf16(x), low = bf16(x - high), which is exact to 2⁻¹⁷; of a product's four parts the
// product of the lows is left out (Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial
// Intelligence Datatype For Higher-Precision Computations", 2019).
template <typename T> struct Operand {
    using Number = T;
    static constexpr int PARTS = 1;
};
template <> struct Operand<float> {
    using Number = bf16;
    static constexpr int PARTS = 2;
};

// What is left of x after its rounding to N.
template <typename N> __device__ __forceinline__ float remainder_of(float x) {
    return x - to_float(from_float<N>(x));
}

// Rows of COLUMNS 16-bit numbers (a multiple of 16) in pieces of 16 bytes. Eight pieces that ldmatrix
// reads together, the same of eight rows that follow each other, lie in different banks: rows of a
// multiple of 128 bytes have their pieces permuted by the row, all others take an odd number of pieces.
template <int COLUMNS> struct Rows {
    static constexpr int PIECES = COLUMNS / 8;
    static constexpr bool IS_PERMUTED = PIECES % 8 == 0;
    static constexpr int STRIDE = IS_PERMUTED ? PIECES : PIECES | 1;
    static constexpr int BYTES = STRIDE * 16;

    __device__ static __forceinline__ int place(int row, int piece) {
        return (row * STRIDE + (IS_PERMUTED ? piece ^ (row & 7) : piece)) * 16;
    }
};

// Eight numbers as 16-bit numbers: part 0 rounded, part 1 what that left.
template <typename T, int PART>
__device__ __forceinline__ uint4 pack8(const float (&x)[8]) {
    using N = typename Operand<T>::Number;
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float low = x[2 * i], high = x[2 * i + 1];
        if (PART == 1) {
            low = remainder_of<N>(low);
            high = remainder_of<N>(high);
        }
        words[i] = pack2<N>(low, high);
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}
