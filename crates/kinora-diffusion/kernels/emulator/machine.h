// One block of CUDA threads on one core: every thread is a fiber that runs until it has to wait for
// others. What a real machine leaves open is decided against the kernel: shared memory starts as
// NaN, threads run in the order of the launch (see Order), and asynchronous copies land as late, or
// as early, as they may. A kernel that misses a barrier or a wait then computes something else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

struct Index {
    unsigned x, y, z;
};

namespace emulator {

// Which thread runs first when several can.
enum class Order : uint32_t {
    // The first warp as far as it gets, then the next; copies land when they are waited for.
    Forwards = 0,
    // The last warp and lane first; copies land at once.
    Backwards = 1,
    // Drawn anew for every round; some copies land at once and some late.
    Shuffled = 2,
};

struct Copy {
    void *to;
    const void *from;
    bool is_present;
    // Not yet committed: the thread's current group.
    uint64_t group;
};

enum class State { Ready, AtBarrier, AtWarp, Done };

struct Fiber {
    Index thread;
    unsigned number;
    State state;
    // What it waits for, for messages and to see divergence.
    const char *waits_for;
    int line;
    void *stack_pointer;
    void *stack;
    std::vector<Copy> copies;
    uint64_t group;
};

// Lanes that have come to an operation of their warp. `operands` point into their stacks.
struct Warp {
    unsigned arrived;
    const char *operation;
    uint32_t mask, here;
    void *operands[32];
};

extern Fiber *current;
extern Index block_index, block_size, grid_size;

// Stops the program with a sentence.
[[noreturn]] void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Waits until every living thread of the block is here.
void barrier(const char *name, int line);

// Waits until the lanes of `mask` are here; the last of them calls `exchange` with what all of them
// brought (null for lanes outside the mask).
void meet(const char *operation, uint32_t mask, void *operands, void (*exchange)(void *operands[32]));

void copy_async(void *to, const void *from, bool is_present);
void commit_copies();
void wait_copies(unsigned newest);

// The launch's dynamic shared memory.
unsigned char *shared_bytes();
// A shared array; `place` tells declarations apart.
void *shared_array(const char *file, int line, size_t bytes);
// Fails unless these bytes lie in shared memory, at a multiple of 16.
void check_shared(const void *at, size_t bytes, const char *operation);
void check_aligned(const void *at, const char *operation);

struct Argument {
    bool is_buffer;
    std::vector<unsigned char> bytes;
    // Where a buffer lies during the run.
    unsigned char *place;
};

using Entry = std::function<std::function<void()>(std::vector<Argument> &)>;

std::map<std::string, Entry> &entries();

// Reads an argument as the kernel's parameter type.
void read_argument(std::vector<Argument> &arguments, size_t i, void *to, size_t bytes, bool is_pointer);

} // namespace emulator
