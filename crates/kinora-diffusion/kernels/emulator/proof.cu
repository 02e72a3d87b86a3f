// Kernels that are right, and the same with one mistake each: what the emulator is there to see.
#include "../portable.cuh"

// Every thread takes its neighbour's number by way of shared memory.
template <bool HAS_BARRIER, int BEYOND> __device__ void turn(const float *from, float *to) {
    SHARED_BYTES(bytes);
    float *shared = reinterpret_cast<float *>(bytes);
    const int i = threadIdx.x, count = blockDim.x;
    shared[i + BEYOND] = from[i];
    if (HAS_BARRIER) __syncthreads();
    to[i] = shared[(i + 1) % count + BEYOND];
}

KERNEL turn_right(const float *from, float *to) { turn<true, 0>(from, to); }
REGISTER(turn_right)

KERNEL turn_without_barrier(const float *from, float *to) { turn<false, 0>(from, to); }
REGISTER(turn_without_barrier)

KERNEL turn_out_of_bounds(const float *from, float *to) { turn<true, 1>(from, to); }
REGISTER(turn_out_of_bounds)

KERNEL turn_in_global_memory(const float *from, float *to) { to[threadIdx.x] = from[threadIdx.x + 1]; }
REGISTER(turn_in_global_memory)

// A barrier that half of the block does not come to, while the rest waits for it elsewhere.
KERNEL barrier_in_a_branch(const float *from, float *to) {
    float value = from[threadIdx.x];
    if (threadIdx.x < 32) __syncthreads();
    value = __shfl_sync(0xffffffff, value, 0);
    if (threadIdx.x >= 32) __syncthreads();
    to[threadIdx.x] = value;
}
REGISTER(barrier_in_a_branch)

KERNEL lanes_that_diverge(const float *from, float *to) {
    float value = from[threadIdx.x];
    if (threadIdx.x % 2) value = __shfl_xor_sync(0xffffffff, value, 1);
    __syncthreads();
    to[threadIdx.x] = value;
}
REGISTER(lanes_that_diverge)

// Copies a run of 16-byte pieces through two shared buffers, one under way while the other is read.
template <int NEWEST, bool HAS_LAST_BARRIER> __device__ void relay(const float *from, float *to, int runs) {
    SHARED_BYTES(bytes);
    const int i = threadIdx.x, count = blockDim.x;
    copy_async16(bytes + i * 16, from + i * 4, true);
    commit_copies();
    for (int run = 0; run < runs; ++run) {
        unsigned char *now = bytes + run % 2 * count * 16, *next = bytes + (run + 1) % 2 * count * 16;
        if (run + 1 < runs) copy_async16(next + i * 16, from + ((run + 1) * count + i) * 4, true);
        commit_copies();
        wait_copies<NEWEST>();
        __syncthreads();
        // The neighbour's piece, so that barriers matter.
        const uint4 piece = load16(now + (i + 1) % count * 16);
        store16(to + (run * count + (i + 1) % count) * 4, piece);
        if (HAS_LAST_BARRIER) __syncthreads();
    }
}

KERNEL relay_right(const float *from, float *to, int runs) { relay<1, true>(from, to, runs); }
REGISTER(relay_right)

KERNEL relay_without_wait(const float *from, float *to, int runs) { relay<2, true>(from, to, runs); }
REGISTER(relay_without_wait)

KERNEL relay_that_overtakes(const float *from, float *to, int runs) { relay<1, false>(from, to, runs); }
REGISTER(relay_that_overtakes)

// out (16 × 8) = a (16 × 16) · b (16 × 8) by one warp; b row by row, so that it is turned on the way.
template <typename T> __device__ void multiply(const T *a, const T *b, float *out, bool is_started) {
    SHARED_BYTES(bytes);
    T *rows = reinterpret_cast<T *>(bytes), *columns = rows + 256;
    const int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) rows[i] = a[i];
    for (int i = lane; i < 256; i += 32) columns[i] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : from_float<T>(0);
    __syncwarp();
    uint32_t left[4], right[4];
    ldmatrix_x4(left, rows + (lane % 16) * 16 + lane / 16 * 8);
    ldmatrix_x4_trans(right, columns + (lane % 16) * 16 + lane / 16 * 8);
    float sums[4];
    if (is_started)
        for (int i = 0; i < 4; ++i) sums[i] = 0;
    mma<T>(sums, left, right[0], right[1]);
    for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

KERNEL multiply_bf16(const bf16 *a, const bf16 *b, float *out, int is_started) { multiply(a, b, out, is_started); }
REGISTER(multiply_bf16)

KERNEL multiply_f16(const f16 *a, const f16 *b, float *out, int is_started) { multiply(a, b, out, is_started); }
REGISTER(multiply_f16)

KERNEL round_bf16(const float *from, bf16 *to) { to[threadIdx.x] = from_float<bf16>(from[threadIdx.x]); }
REGISTER(round_bf16)

KERNEL round_f16(const float *from, f16 *to) { to[threadIdx.x] = from_float<f16>(from[threadIdx.x]); }
REGISTER(round_f16)
