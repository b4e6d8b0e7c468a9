// The instructions of hopper.cuh and hopper_products.cuh, by what the PTX ISA says of them. Copies
// and products are done when they are waited for: the latest that hardware might.
#pragma once

#include <emulated_ptx.h>

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <vector>

namespace samtrt {

inline uint32_t shared_address(void const* pointer) {
  return static_cast<uint32_t>(static_cast<unsigned char const*>(pointer) -
                               emulator::shared_memory);
}

inline void begin_products() {}
inline void end_ordinary_accesses() {}
inline void publish_barriers() {}

struct EmulatedBarrier {
  int32_t bytes;  // still to come in this phase
  uint8_t arrived, count;
  uint16_t phase;

  void turn() {
    if (arrived < count || bytes != 0) return;
    arrived = 0;
    ++phase;
  }
};
static_assert(sizeof(EmulatedBarrier) == sizeof(uint64_t));

inline EmulatedBarrier* barrier_at(uint64_t* barrier) {
  return reinterpret_cast<EmulatedBarrier*>(barrier);
}

// Copies that nobody has waited for yet.
inline std::multimap<EmulatedBarrier*, std::function<void()>> copies_under_way;

inline void make_barrier(uint64_t* barrier, int count) {
  if (!copies_under_way.empty() && barrier_at(barrier)->count == 0xff) {
    std::fprintf(stderr, "emulator: a thread block ended before its copies\n");
    std::abort();
  }
  *barrier_at(barrier) = {0, 0, static_cast<uint8_t>(count), 0};
}

inline void expect_bytes(uint64_t* barrier, int bytes) {
  barrier_at(barrier)->bytes += bytes;
  ++barrier_at(barrier)->arrived;
  barrier_at(barrier)->turn();
}

inline void arrive(uint64_t* barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) {
    ++barrier_at(barrier)->arrived;
    barrier_at(barrier)->turn();
  }
}

inline void wait_for_phase(uint64_t* barrier, int phase) {
  EmulatedBarrier* const at = barrier_at(barrier);
  while (at->phase % 2 == phase % 2) {
    auto const mine = copies_under_way.equal_range(at);
    for (auto copy = mine.first; copy != mine.second; ++copy) copy->second();
    copies_under_way.erase(mine.first, mine.second);
    if (at->phase % 2 == phase % 2) emulator::let_others_run();
  }
}

inline void wait_for_group(int) {
  emulator::together_in_group(nullptr, [](void* const(&)[emulator::kGroup]) {});
}

template <int Threads>
void wait_for_some() {
  emulator::wait_for_threads(Threads);
}

// Registers are the compiler's.
template <int Registers>
void more_registers() {}
template <int Registers>
void fewer_registers() {}

// The place of a byte in swizzled rows, told by the address alone.
inline uint32_t swizzled_address(uint32_t at, uint32_t row_bytes) {
  return at ^ (at >> 3 & (row_bytes - 16));
}

// Outside the tensor there are zeros. `first` are the box's first indices.
template <size_t Rank>
void copy_box_now(void* to, CUtensorMap const& map, std::array<int, Rank> const& first,
                  uint64_t* barrier) {
  check_address(to, true);
  int count = 1;
  for (size_t i = 0; i < Rank; ++i) count *= map.box[i];
  if (map.rank != Rank || map.box[0] * 2 != map.swizzle) {
    std::fprintf(stderr, "emulator: a box of another shape\n");
    std::abort();
  }
  for (int number = 0; number < count; ++number) {
    unsigned char const* from = map.start;
    bool inside = true;
    int left = number;
    for (size_t i = 0; i < Rank; left /= map.box[i++]) {
      int64_t const index = first[i] + left % map.box[i];
      inside = inside && index >= 0 && index < map.sizes[i];
      from += index * map.strides[i];
    }
    unsigned char* const place =
        emulator::shared_memory +
        swizzled_address(shared_address(to) + number * 2, static_cast<uint32_t>(map.swizzle));
    if (place + 2 > emulator::shared_memory + emulator::shared_bytes) std::abort();
    if (inside) {
      std::memcpy(place, from, 2);
    } else {
      std::memset(place, 0, 2);
    }
  }
  barrier_at(barrier)->bytes -= count * 2;
  barrier_at(barrier)->turn();
}

template <size_t Rank>
void copy_box_later(void* to, CUtensorMap const& map, std::array<int, Rank> const& first,
                    uint64_t* barrier) {
  copies_under_way.emplace(barrier_at(barrier), [=] { copy_box_now(to, map, first, barrier); });
}

inline void copy_box(void* to, CUtensorMap const& map, int column, int row, uint64_t* barrier) {
  copy_box_later<2>(to, map, {column, row}, barrier);
}

inline void copy_box(void* to, CUtensorMap const& map, int channel, int x, int y, int batch,
                     uint64_t* barrier) {
  copy_box_later<4>(to, map, {channel, x, y, batch}, barrier);
}

// c[64, 8 tiles] += a[64, 16] b[16, 8 tiles]; this lane's part.
struct GroupProduct {
  float (*c)[4];
  int tiles;
  bool adds, b_is_transposed;
  bool has_a;  // in registers, else in shared memory
  std::array<uint32_t, 4> a;
  uint64_t a_tile, b_tile;
  emulator::GroupWork work;
};

// Of each thread: products not yet committed, and those of every commit that is under way.
struct Products {
  std::vector<GroupProduct> open;
  std::deque<std::vector<GroupProduct>> under_way;
};
inline Products& products_here() {
  static std::vector<Products> of_threads(1024);
  return of_threads[threadIdx.x];
}

inline void end_products() {
  Products& mine = products_here();
  mine.under_way.push_back(std::move(mine.open));
  mine.open.clear();
}

template <int Pending>
void wait_for_products() {
  Products& mine = products_here();
  while (mine.under_way.size() > Pending) {
    for (GroupProduct& product : mine.under_way.front()) {
      emulator::together_in_group(&product, product.work);
    }
    mine.under_way.pop_front();
  }
}

// A value of the tile of a descriptor: rows lie in eights.
template <typename T>
float value_of_tile(uint64_t tile, int row, int column) {
  auto const swizzle = static_cast<int>(tile >> 62);
  uint32_t const row_bytes = 256u >> swizzle, eight_rows = (tile >> 32 & 0x3fff) << 4;
  uint32_t const start = static_cast<uint32_t>(tile & 0x3fff) << 4;
  uint32_t const at =
      swizzled_address(start + row / 8 * eight_rows + row % 8 * row_bytes + column * 2, row_bytes);
  if (swizzle == 0 || at + 2 > emulator::shared_bytes) {
    std::fprintf(stderr, "emulator: a tile without swizzle, or outside shared memory\n");
    std::abort();
  }
  T value;
  std::memcpy(&value, emulator::shared_memory + at, 2);
  return static_cast<float>(value);
}

template <typename T>
void multiply_of_group(void* const (&lanes)[emulator::kGroup]) {
  auto const& first = *static_cast<GroupProduct*>(lanes[0]);
  static float a[64][16], b[16][256];
  int const columns = first.tiles * 8;
  for (int k = 0; k < 16; ++k) {
    for (int n = 0; n < columns; ++n) {
      b[k][n] = first.b_is_transposed ? value_of_tile<T>(first.b_tile, k, n)
                                      : value_of_tile<T>(first.b_tile, n, k);
    }
  }
  for (int thread = 0; thread < emulator::kGroup; ++thread) {
    auto const& mine = *static_cast<GroupProduct*>(lanes[thread]);
    if (mine.a_tile != first.a_tile || mine.b_tile != first.b_tile || mine.tiles != first.tiles) {
      std::fprintf(stderr, "emulator: warps of a group multiply different tiles\n");
      std::abort();
    }
    int const lane = thread % 32, top = thread / 32 * 16;
    for (int i = 0; i < 8; ++i) {
      int const row = top + lane / 4 + i / 2 % 2 * 8, column = lane % 4 * 2 + i % 2 + i / 4 * 8;
      a[row][column] = first.has_a ? half_of<T>(mine.a[i / 2], i % 2)
                                   : value_of_tile<T>(first.a_tile, row, column);
    }
  }
  for (int thread = 0; thread < emulator::kGroup; ++thread) {
    auto const& mine = *static_cast<GroupProduct*>(lanes[thread]);
    int const lane = thread % 32, top = thread / 32 * 16;
    for (int n = 0; n < mine.tiles; ++n) {
      for (int i = 0; i < 4; ++i) {
        int const row = top + lane / 4 + i / 2 * 8, column = n * 8 + lane % 4 * 2 + i % 2;
        float sum = mine.adds ? mine.c[n][i] : 0.f;
        for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
        mine.c[n][i] = sum;
      }
    }
  }
}

template <typename T, int Tiles>
void multiply_later(float (&c)[Tiles][4], bool adds, bool transposed, uint32_t const* a,
                    uint64_t a_tile, uint64_t b_tile) {
  GroupProduct product{c, Tiles, adds, transposed, a != nullptr, {}, a_tile, b_tile};
  product.work = multiply_of_group<T>;
  if (a != nullptr) std::copy(a, a + 4, product.a.begin());
  products_here().open.push_back(product);
}

template <typename T, bool Transposed = true, int Tiles>
void multiply_async(float (&c)[Tiles][4], uint32_t const (&a)[4], uint64_t b) {
  multiply_later<T>(c, true, Transposed, a, 0, b);
}

template <int Tiles>
void multiply_half_async(float (&c)[Tiles][4], uint32_t const (&a)[4], uint64_t b) {
  multiply_later<__half>(c, true, false, a, 0, b);
}

template <typename T, int Add, int Tiles>
void multiply_shared_async(float (&c)[Tiles][4], uint64_t a, uint64_t b) {
  multiply_later<T>(c, Add != 0, false, nullptr, a, b);
}

}  // namespace samtrt
