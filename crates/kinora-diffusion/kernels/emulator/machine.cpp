// The emulated block, and a program around it: one launch comes in on standard input, the buffers
// as the kernel left them go out on standard output. Faults are a sentence on standard error and a
// status of 2.
//
// A launch, in little-endian: u32 length and bytes of the kernel's name; u32 grid x, y, z; u32
// block x, y, z; u32 bytes of dynamic shared memory; u32 order; u32 seed; u32 number of arguments;
// then each argument as u32 whether it is a buffer, u64 length, bytes. A pointer parameter takes a
// buffer, or eight zero bytes for null; any other takes its own bytes.
#include "machine.h"

#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator {

Fiber *current = nullptr;
Index block_index, block_size, grid_size;

namespace {

constexpr size_t PAGE = 65536;
constexpr size_t STACK = 256 * 1024;
constexpr unsigned char GARBAGE = 0xff;

Order order;
uint64_t random_state;

uint32_t draw() {
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(random_state >> 33);
}

// Memory that ends where none follows. What the length lacks to 16 bytes is watched.
struct Guarded {
    unsigned char *map = nullptr, *start = nullptr;
    size_t mapped = 0, bytes = 0, room = 0;
    std::string name;

    Guarded(size_t bytes, std::string name) : bytes(bytes), room((bytes + 15) / 16 * 16), name(std::move(name)) {
        const size_t pages = (room + PAGE - 1) / PAGE * PAGE;
        mapped = pages + 2 * PAGE;
        void *at = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) fail("no memory for %zu bytes", bytes);
        map = static_cast<unsigned char *>(at);
        if (pages && mprotect(map + PAGE, pages, PROT_READ | PROT_WRITE)) fail("no memory for %zu bytes", bytes);
        start = map + PAGE + pages - room;
        fill();
    }

    void fill() { std::memset(map + PAGE, GARBAGE, size_t(start - map) - PAGE + room); }

    bool holds(const void *at, size_t count) const {
        const auto *byte = static_cast<const unsigned char *>(at);
        return byte >= start && byte + count <= start + bytes;
    }

    // Writes before or just behind it show as changed garbage.
    void check() const {
        for (const unsigned char *byte = map + PAGE; byte < start; ++byte)
            if (*byte != GARBAGE) fail("a write %zu bytes before %s", size_t(start - byte), name.c_str());
        for (const unsigned char *byte = start + bytes; byte < start + room; ++byte)
            if (*byte != GARBAGE) fail("a write %zu bytes behind the end of %s", size_t(byte - start - bytes), name.c_str());
    }
};

std::vector<Guarded *> memory;
Guarded *dynamic_shared = nullptr;
struct Array {
    const char *file;
    int line;
    Guarded *memory;
};
std::vector<Array> arrays;

void explain_fault(int, siginfo_t *info, void *) {
    const auto *at = static_cast<unsigned char *>(info->si_addr);
    char text[256];
    int length = std::snprintf(text, sizeof text, "an access outside of all memory at %p", info->si_addr);
    for (const Guarded *region : memory) {
        if (at < region->map || at >= region->map + region->mapped) continue;
        const bool is_behind = at >= region->start;
        length = std::snprintf(text, sizeof text, "an access %zu bytes %s %s by thread %u of block (%u, %u, %u)",
                               size_t(is_behind ? at - region->start - region->bytes : region->start - at),
                               is_behind ? "behind the end of" : "before", region->name.c_str(),
                               current ? current->number : 0, block_index.x, block_index.y, block_index.z);
    }
    if (write(2, text, size_t(length)) >= 0 && write(2, "\n", 1) >= 0) _exit(2);
    _exit(2);
}

// Fibers: on x86-64 a switch of stacks by hand, for it happens at every operation of a warp;
// elsewhere the C library's.

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::function<void()> body;

void run_fiber() {
    body();
    current->state = State::Done;
}

#ifdef __x86_64__
extern "C" void kinora_switch(void **from, void *to);
asm(R"(
.text
.p2align 4
.globl kinora_switch
.type kinora_switch, @function
kinora_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size kinora_switch, . - kinora_switch
.section .note.GNU-stack,"",@progbits
.text
)");

void *scheduler_stack;

void leave() { kinora_switch(&current->stack_pointer, scheduler_stack); }

void enter(Fiber &fiber) {
    current = &fiber;
    kinora_switch(&scheduler_stack, fiber.stack_pointer);
}

[[noreturn]] void start_fiber() {
    run_fiber();
    leave();
    std::abort();
}

void prepare(Fiber &fiber) {
    // What the switch pops: six registers, then the address it returns to. The ABI wants the stack
    // 8 bytes off a multiple of 16 at a function's entry.
    auto *top = reinterpret_cast<void **>(static_cast<unsigned char *>(fiber.stack) + STACK) - 2;
    *top = reinterpret_cast<void *>(start_fiber);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    fiber.stack_pointer = top;
}
#else
ucontext_t scheduler_context;

ucontext_t *context(Fiber &fiber) { return static_cast<ucontext_t *>(fiber.stack_pointer); }

void leave() { swapcontext(context(*current), &scheduler_context); }

void enter(Fiber &fiber) {
    current = &fiber;
    swapcontext(&scheduler_context, context(fiber));
}

void prepare(Fiber &fiber) {
    if (!fiber.stack_pointer) fiber.stack_pointer = new ucontext_t;
    getcontext(context(fiber));
    context(fiber)->uc_stack.ss_sp = fiber.stack;
    context(fiber)->uc_stack.ss_size = STACK;
    context(fiber)->uc_link = &scheduler_context;
    makecontext(context(fiber), run_fiber, 0);
}
#endif

void wait(State state, const char *name, int line) {
    current->state = state;
    current->waits_for = name;
    current->line = line;
    leave();
}

// Whether the barrier opens: every living thread is at the same one.
bool open_barrier() {
    const Fiber *first = nullptr;
    for (const Fiber &fiber : fibers) {
        if (fiber.state == State::Done) continue;
        if (fiber.state != State::AtBarrier) return false;
        if (!first) first = &fiber;
        if (fiber.line != first->line)
            fail("threads %u and %u of a block wait at different barriers: lines %d and %d", first->number,
                 fiber.number, first->line, fiber.line);
    }
    if (!first) return false;
    for (Fiber &fiber : fibers)
        if (fiber.state == State::AtBarrier) fiber.state = State::Ready;
    return true;
}

void explain_deadlock() {
    std::string waiting;
    std::map<std::string, unsigned> counts;
    for (const Fiber &fiber : fibers) {
        std::string where = "done";
        if (fiber.state == State::AtBarrier) where = "at __syncthreads of line " + std::to_string(fiber.line);
        if (fiber.state == State::AtWarp) where = std::string("at ") + fiber.waits_for;
        ++counts[where];
    }
    for (const auto &[where, count] : counts)
        waiting += (waiting.empty() ? "" : ", ") + std::to_string(count) + " " + where;
    fail("a block stands still: of its threads are %s", waiting.c_str());
}

void run_block() {
    for (size_t i = 0; i < fibers.size(); ++i) {
        fibers[i].state = State::Ready;
        fibers[i].copies.clear();
        fibers[i].group = 0;
        prepare(fibers[i]);
    }
    for (Warp &warp : warps) warp = {};
    dynamic_shared->fill();
    for (Array &array : arrays) array.memory->fill();
    const size_t count = fibers.size();
    std::vector<size_t> turns(count);
    for (;;) {
        for (size_t i = 0; i < count; ++i) turns[i] = order == Order::Backwards ? count - 1 - i : i;
        if (order == Order::Shuffled)
            for (size_t i = count; i > 1; --i) std::swap(turns[i - 1], turns[draw() % i]);
        bool has_run = false;
        for (size_t i = 0; i < count;) {
            // A warp goes on until it waits for others; shuffled threads take one turn each.
            const size_t group = order == Order::Shuffled ? count : std::min(count - i, size_t(32));
            bool again = true;
            while (again) {
                again = false;
                for (size_t j = i; j < i + group; ++j) {
                    Fiber &fiber = fibers[turns[j]];
                    if (fiber.state != State::Ready) continue;
                    enter(fiber);
                    has_run = true;
                    again = order != Order::Shuffled;
                }
            }
            i += group;
        }
        if (open_barrier()) continue;
        if (has_run) continue;
        for (const Fiber &fiber : fibers)
            if (fiber.state != State::Done) explain_deadlock();
        return;
    }
}

void land(const Copy &copy) {
    if (copy.is_present) {
        std::memcpy(copy.to, copy.from, 16);
    } else {
        std::memset(copy.to, 0, 16);
    }
}

template <typename T> T read(const char *what) {
    T value;
    if (std::fread(&value, sizeof value, 1, stdin) != 1) fail("a launch without %s", what);
    return value;
}

Index read_index(const char *what) {
    Index index;
    index.x = read<uint32_t>(what);
    index.y = read<uint32_t>(what);
    index.z = read<uint32_t>(what);
    if (!index.x || !index.y || !index.z) fail("a launch with an empty %s", what);
    return index;
}

std::vector<unsigned char> read_bytes(uint64_t length, const char *what) {
    if (length > (uint64_t(1) << 32)) fail("a launch with %llu bytes of %s", (unsigned long long)length, what);
    std::vector<unsigned char> bytes(length);
    if (length && std::fread(bytes.data(), 1, length, stdin) != length) fail("a launch without all of %s", what);
    return bytes;
}

} // namespace

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::fflush(stderr);
    _exit(2);
}

void barrier(const char *name, int line) { wait(State::AtBarrier, name, line); }

void meet(const char *operation, uint32_t mask, void *operands, void (*exchange)(void *operands[32])) {
    Fiber *me = current;
    Warp &warp = warps[me->number / 32];
    const unsigned lane = me->number % 32, lanes = std::min(32u, unsigned(fibers.size()) - me->number / 32 * 32);
    const uint32_t living = lanes == 32 ? 0xffffffff : (1u << lanes) - 1;
    // A block that is no multiple of 32 has a last warp without some lanes.
    mask &= living;
    if (!(mask >> lane & 1)) fail("thread %u is not in its own mask of %s", me->number, operation);
    const bool is_same = warp.operation == operation || (warp.arrived && !std::strcmp(warp.operation, operation));
    if (warp.arrived && (!is_same || warp.mask != mask))
        fail("lanes of a warp diverge: thread %u comes to %s where others wait at %s", me->number, operation,
             warp.operation);
    warp.operation = operation;
    warp.mask = mask;
    warp.operands[lane] = operands;
    warp.here |= 1u << lane;
    ++warp.arrived;
    if (warp.here != mask) return wait(State::AtWarp, operation, 0);
    exchange(warp.operands);
    warp = {};
    for (unsigned i = 0; i < lanes; ++i) {
        Fiber &other = fibers[me->number / 32 * 32 + i];
        if (other.state == State::AtWarp && (mask >> i & 1)) other.state = State::Ready;
    }
}

void copy_async(void *to, const void *from, bool is_present) {
    const bool is_early = order == Order::Backwards || (order == Order::Shuffled && draw() % 2);
    const Copy copy{to, from, is_present, current->group};
    if (is_early) {
        land(copy);
    } else {
        current->copies.push_back(copy);
    }
}

void commit_copies() { ++current->group; }

void wait_copies(unsigned newest) {
    std::vector<Copy> still;
    for (const Copy &copy : current->copies) {
        // Groups up to (committed - newest) have landed; what is not committed may still be under way.
        if (copy.group + newest < current->group) {
            land(copy);
        } else {
            still.push_back(copy);
        }
    }
    current->copies = std::move(still);
}

unsigned char *shared_bytes() { return dynamic_shared->start; }

void *shared_array(const char *file, int line, size_t bytes) {
    for (const Array &array : arrays)
        if (array.file == file && array.line == line && array.memory->bytes == bytes) return array.memory->start;
    auto *region = new Guarded(bytes, "the shared array of line " + std::to_string(line));
    memory.push_back(region);
    arrays.push_back({file, line, region});
    return region->start;
}

void check_aligned(const void *at, const char *operation) {
    if (reinterpret_cast<uintptr_t>(at) % 16) fail("%s at an address that is no multiple of 16", operation);
}

void check_shared(const void *at, size_t bytes, const char *operation) {
    check_aligned(at, operation);
    bool is_inside = dynamic_shared->holds(at, bytes);
    for (const Array &array : arrays) is_inside |= array.memory->holds(at, bytes);
    if (!is_inside)
        fail("%s outside of shared memory, %td bytes from its start, by thread %u", operation,
             static_cast<const unsigned char *>(at) - dynamic_shared->start, current->number);
}

std::map<std::string, Entry> &entries() {
    static std::map<std::string, Entry> all;
    return all;
}

void read_argument(std::vector<Argument> &arguments, size_t i, void *to, size_t bytes, bool is_pointer) {
    Argument &argument = arguments[i];
    if (argument.is_buffer != is_pointer && !(is_pointer && argument.bytes == std::vector<unsigned char>(8)))
        fail("argument %zu should%s be a buffer", i, is_pointer ? "" : " not");
    if (argument.is_buffer) {
        std::memcpy(to, &argument.place, sizeof argument.place);
        return;
    }
    if (argument.bytes.size() != bytes)
        fail("argument %zu takes %zu bytes and got %zu", i, bytes, argument.bytes.size());
    std::memcpy(to, argument.bytes.data(), bytes);
}

} // namespace emulator

int main() {
    using namespace emulator;
    static unsigned char handler_stack[65536];
    stack_t alternative{};
    alternative.ss_sp = handler_stack;
    alternative.ss_size = sizeof handler_stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action{};
    action.sa_sigaction = explain_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);

    const auto name_bytes = read_bytes(read<uint32_t>("a name"), "its name");
    const std::string name(name_bytes.begin(), name_bytes.end());
    grid_size = read_index("grid");
    block_size = read_index("block");
    const uint32_t shared = read<uint32_t>("shared memory");
    order = Order(read<uint32_t>("an order"));
    random_state = read<uint32_t>("a seed");
    const uint32_t count = read<uint32_t>("arguments");
    std::vector<Argument> arguments;
    std::vector<Guarded *> buffers;
    for (uint32_t i = 0; i < count && i < 64; ++i) {
        Argument argument{};
        argument.is_buffer = read<uint32_t>("an argument") != 0;
        argument.bytes = read_bytes(read<uint64_t>("an argument"), "an argument");
        if (argument.is_buffer) {
            auto *region = new Guarded(argument.bytes.size(), "argument " + std::to_string(i));
            std::memcpy(region->start, argument.bytes.data(), argument.bytes.size());
            argument.place = region->start;
            memory.push_back(region);
            buffers.push_back(region);
        }
        arguments.push_back(std::move(argument));
    }
    const auto entry = entries().find(name);
    if (entry == entries().end()) fail("there is no kernel %s", name.c_str());
    body = entry->second(arguments);

    const size_t threads = size_t(block_size.x) * block_size.y * block_size.z;
    if (threads > 1024) fail("a block of %zu threads", threads);
    if (shared > 227 * 1024) fail("a launch with %u bytes of shared memory", shared);
    dynamic_shared = new Guarded(shared, "shared memory");
    memory.push_back(dynamic_shared);
    fibers.resize(threads);
    warps.resize((threads + 31) / 32);
    for (size_t i = 0; i < threads; ++i) {
        Fiber &fiber = fibers[i];
        fiber.number = unsigned(i);
        fiber.thread = {unsigned(i % block_size.x), unsigned(i / block_size.x % block_size.y),
                        unsigned(i / block_size.x / block_size.y)};
        auto *stack = new Guarded(STACK, "a thread's stack");
        memory.push_back(stack);
        fiber.stack = stack->start;
    }
    for (unsigned z = 0; z < grid_size.z; ++z)
        for (unsigned y = 0; y < grid_size.y; ++y)
            for (unsigned x = 0; x < grid_size.x; ++x) {
                block_index = {x, y, z};
                run_block();
            }
    for (const Guarded *region : memory) region->check();
    for (const Guarded *buffer : buffers)
        if (std::fwrite(buffer->start, 1, buffer->bytes, stdout) != buffer->bytes) fail("nobody reads the results");
    std::fflush(stdout);
    _exit(0);
}
