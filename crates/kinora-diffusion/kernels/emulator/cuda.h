// CUDA's names over the emulated block of machine.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "machine.h"
#include "numbers.h"

#define __device__
#define __global__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __constant__ static const

#define KERNEL extern "C" void
#define REGISTER(name) static emulator::Registered registered_##name(#name, name);
#define SHARED_BYTES(name) unsigned char *name = emulator::shared_bytes()
#define SHARED_ARRAY(type, name, count)                                                                                \
    type(&name)[count] = *static_cast<type(*)[count]>(emulator::shared_array(__FILE__, __LINE__, sizeof(type) * (count)))
#define INFINITE std::numeric_limits<float>::infinity()

#define threadIdx (emulator::current->thread)
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid_size)
#define warpSize 32

struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

using std::max;
using std::min;

namespace emulator {

struct Registered {
    template <typename... Parameters> Registered(const char *name, void (*kernel)(Parameters...)) {
        entries()[name] = [=](std::vector<Argument> &arguments) -> std::function<void()> {
            if (arguments.size() != sizeof...(Parameters))
                fail("%s takes %zu arguments and got %zu", name, sizeof...(Parameters), arguments.size());
            return bind(kernel, arguments, std::index_sequence_for<Parameters...>());
        };
    }

    template <typename... Parameters, size_t... I>
    static std::function<void()> bind(void (*kernel)(Parameters...), std::vector<Argument> &arguments,
                                      std::index_sequence<I...>) {
        std::tuple<std::remove_const_t<Parameters>...> values;
        (read_argument(arguments, I, &std::get<I>(values), sizeof(Parameters), std::is_pointer_v<Parameters>), ...);
        return [=] { std::apply(kernel, values); };
    }
};

template <typename T, typename From> T shuffle(const char *operation, uint32_t mask, T value, From from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
    struct Operands {
        T value;
        unsigned from;
        T result;
    } operands{value, from(current->number % 32), value};
    meet(operation, mask, &operands, [](void *all[32]) {
        for (int lane = 0; lane < 32; ++lane) {
            if (!all[lane]) continue;
            auto *mine = static_cast<Operands *>(all[lane]);
            if (mine->from > 31 || !all[mine->from]) fail("a shuffle reads a lane that is not in its mask");
            mine->result = static_cast<Operands *>(all[mine->from])->value;
        }
    });
    return operands.result;
}

} // namespace emulator

inline void __syncthreads(int line = __builtin_LINE()) { emulator::barrier("__syncthreads", line); }

inline void __syncwarp(uint32_t mask = 0xffffffff) {
    emulator::meet("__syncwarp", mask, &mask, [](void *[32]) {});
}

template <typename T> T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
    return emulator::shuffle("__shfl_sync", mask, value,
                             [=](unsigned lane) { return lane / width * width + unsigned(source) % width; });
}
template <typename T> T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32) {
    return emulator::shuffle("__shfl_xor_sync", mask, value, [=](unsigned lane) {
        const unsigned from = lane ^ unsigned(bits);
        return from / width > lane / width ? lane : from;
    });
}
template <typename T> T __shfl_down_sync(uint32_t mask, T value, unsigned distance, int width = 32) {
    return emulator::shuffle("__shfl_down_sync", mask, value,
                             [=](unsigned lane) { return lane % width + distance < unsigned(width) ? lane + distance : lane; });
}
template <typename T> T __shfl_up_sync(uint32_t mask, T value, unsigned distance, int width = 32) {
    return emulator::shuffle("__shfl_up_sync", mask, value,
                             [=](unsigned lane) { return lane % width >= distance ? lane - distance : lane; });
}

// One thread runs at a time and is only interrupted where it waits.
template <typename T> T atomicAdd(T *to, T value) {
    const T before = *to;
    *to = before + value;
    return before;
}

template <typename T> T __ldg(const T *from) { return *from; }

inline uint4 load16(const void *from) {
    emulator::check_aligned(from, "load16");
    uint4 value;
    std::memcpy(&value, from, 16);
    return value;
}
inline void store16(void *to, uint4 value) {
    emulator::check_aligned(to, "store16");
    std::memcpy(to, &value, 16);
}

inline float exp2_approx(float x) { return std::exp2(x); }
inline float rsqrt_approx(float x) { return 1.0f / std::sqrt(x); }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline void copy_async16(void *shared, const void *global, bool is_present) {
    emulator::check_shared(shared, 16, "cp.async");
    emulator::check_aligned(global, "cp.async");
    emulator::copy_async(shared, global, is_present);
}
inline void commit_copies() { emulator::commit_copies(); }
template <int NEWEST> void wait_copies() { emulator::wait_copies(NEWEST); }

namespace emulator {

struct MatrixOperands {
    uint32_t *r;
    const void *row;
    uint16_t numbers[8];
};

// Lane 8m + i brings row i of matrix m; register m of a lane holds two neighbours of a row of
// matrix m, or of a column when it is transposed on the way.
template <bool IS_TRANSPOSED> void load_matrices(uint32_t (&r)[4], const void *row) {
    const char *name = IS_TRANSPOSED ? "ldmatrix.trans" : "ldmatrix";
    check_shared(row, 16, name);
    MatrixOperands operands{r, row, {}};
    meet(name, 0xffffffff, &operands, [](void *all[32]) {
        for (int lane = 0; lane < 32; ++lane) {
            auto *mine = static_cast<MatrixOperands *>(all[lane]);
            std::memcpy(mine->numbers, mine->row, 16);
        }
        for (int lane = 0; lane < 32; ++lane) {
            auto *mine = static_cast<MatrixOperands *>(all[lane]);
            for (int m = 0; m < 4; ++m) {
                uint32_t both = 0;
                for (int part = 0; part < 2; ++part) {
                    const int along = 2 * (lane % 4) + part, across = lane / 4;
                    const int line = IS_TRANSPOSED ? along : across, column = IS_TRANSPOSED ? across : along;
                    both |= uint32_t(static_cast<MatrixOperands *>(all[8 * m + line])->numbers[column]) << (16 * part);
                }
                mine->r[m] = both;
            }
        }
    });
}

struct ProductOperands {
    float *d;
    const uint32_t *a;
    uint32_t b[2];
};

} // namespace emulator

inline void ldmatrix_x4(uint32_t (&r)[4], const void *row) { emulator::load_matrices<false>(r, row); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row) { emulator::load_matrices<true>(r, row); }

// PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type": with g = lane / 4 and
// t = lane % 4, A's registers are rows g, g+8, g, g+8 and columns 2t, 2t, 2t+8, 2t+8; B's are rows
// 2t, 2t+8 of column g; D's numbers are rows g, g, g+8, g+8 and columns 2t, 2t+1, 2t, 2t+1.
template <typename T> void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    using emulator::ProductOperands;
    ProductOperands operands{d, a, {b0, b1}};
    emulator::meet("mma", 0xffffffff, &operands, [](void *all[32]) {
        float left[16][16], right[16][8], sums[16][8] = {};
        for (int lane = 0; lane < 32; ++lane) {
            const auto *theirs = static_cast<ProductOperands *>(all[lane]);
            const int g = lane / 4, t = lane % 4;
            for (int part = 0; part < 2; ++part) {
                for (int i = 0; i < 4; ++i)
                    left[g + i % 2 * 8][2 * t + part + i / 2 * 8] = half_of<T>(theirs->a[i], part);
                for (int i = 0; i < 2; ++i) right[2 * t + part + i * 8][g] = half_of<T>(theirs->b[i], part);
            }
        }
        // Columns inside, so that compilers take several at once.
        for (int m = 0; m < 16; ++m)
            for (int k = 0; k < 16; ++k)
                for (int n = 0; n < 8; ++n) sums[m][n] += left[m][k] * right[k][n];
        for (int lane = 0; lane < 32; ++lane) {
            auto *mine = static_cast<ProductOperands *>(all[lane]);
            for (int i = 0; i < 4; ++i) mine->d[i] += sums[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
        }
    });
}
