// Switching stacks is what its check of longjmp takes for a fault.
#undef _FORTIFY_SOURCE

#include "emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace emulator {

int compute_capability = 8;
dim3 thread_index, block_index, grid_size;
unsigned char* shared_memory;
std::size_t shared_bytes;

namespace {

constexpr std::size_t kStack = 256 * 1024;

struct Fiber {
  std::unique_ptr<unsigned char[]> stack{new unsigned char[kStack]};
  jmp_buf place;
  bool started = false, ended;
};

template <int Size>
struct Meeting {
  int arrived = 0;
  long round = 0;
  void (*work)(void* const (&)[Size]) = nullptr;
  void* lanes[Size];
};

std::vector<Fiber> fibers;
std::vector<Meeting<kWarp>> warps;
std::vector<Meeting<kGroup>> groups;
struct {
  int arrived = 0;
  long round = 0;
} block, some;  // all threads, and those that wait for a number of them
int alive, current;
bool progress;
jmp_buf scheduler;
std::function<void()> const* kernel;

[[noreturn]] void fail(char const* what) {
  std::fprintf(stderr, "emulator: %s (thread %d of block %u, %u, %u)\n", what, current,
               block_index.x, block_index.y, block_index.z);
  std::abort();
}

void yield() {
  if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
}

void start() {
  for (;;) {  // one round a thread block
    (*kernel)();
    fibers[current].ended = true;
    --alive;
    progress = true;
    yield();
  }
}

// Let a fiber run until it yields. swapcontext would ask the system for the signal mask each time.
void resume(Fiber& fiber) {
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.place, 1);
  fiber.started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStack;
  context.uc_link = nullptr;
  makecontext(&context, start, 0);
  setcontext(&context);
}

void open_block_barrier() {
  block.arrived = 0;
  ++block.round;
  progress = true;
}

void run_block(int threads) {
  warps.assign((threads + kWarp - 1) / kWarp, {});
  groups.assign((threads + kGroup - 1) / kGroup, {});
  block = some = {};
  alive = threads;
  for (int i = 0; i < threads; ++i) fibers[i].ended = false;
  while (alive > 0) {
    progress = false;
    for (int i = 0; i < threads; ++i) {
      if (fibers[i].ended) continue;
      current = i;
      thread_index = dim3(i, 0, 0);
      resume(fibers[i]);
    }
    // Threads that have ended are not waited for.
    if (alive > 0 && block.arrived == alive) open_block_barrier();
    if (!progress) fail("threads wait for one another for ever");
  }
}

template <int Size>
void meet(Meeting<Size>& meeting, void* mine, void (*work)(void* const (&)[Size])) {
  if (meeting.arrived > 0 && meeting.work != work) fail("lanes do different things together");
  meeting.work = work;
  meeting.lanes[current % Size] = mine;
  progress = true;
  if (++meeting.arrived == Size) {
    work(meeting.lanes);
    meeting.arrived = 0;
    ++meeting.round;
    return;
  }
  long const round = meeting.round;
  while (meeting.round == round) yield();
}

}  // namespace

void wait_for_block() {
  long const round = block.round;
  ++block.arrived;
  progress = true;
  while (block.round == round) yield();
}

void wait_for_threads(int count) {
  long const round = some.round;
  progress = true;
  if (++some.arrived == count) {
    some.arrived = 0;
    ++some.round;
  }
  while (some.round == round) yield();
}

void together(void* mine, Work work) { meet(warps[current / kWarp], mine, work); }

void together_in_group(void* mine, GroupWork work) { meet(groups[current / kGroup], mine, work); }

void let_others_run() { yield(); }

void run(dim3 blocks, int threads, std::size_t shared, std::function<void()> const& body) {
  if (threads % kWarp != 0) fail("a thread block is not of whole warps");
  if (static_cast<int>(fibers.size()) < threads) fibers = std::vector<Fiber>(threads);
  void* const memory = std::aligned_alloc(1024, (shared + 1023) / 1024 * 1024 + 1024);
  shared_memory = static_cast<unsigned char*>(memory);
  shared_bytes = shared;
  kernel = &body;
  grid_size = blocks;
  for (unsigned z = 0; z < blocks.z; ++z) {
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        block_index = dim3(x, y, z);
        std::memset(memory, 0xff, shared);  // not a number in every type
        run_block(threads);
      }
    }
  }
  std::free(memory);
}

}  // namespace emulator

// For tests, which call it by name.
extern "C" void emulate_capability(int major) { emulator::compute_capability = major; }
