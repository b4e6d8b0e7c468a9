// The instructions of ptx.cuh, by what the PTX ISA says of them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace samtrt {

// Addresses that hardware would fault on.
inline void check_address(void const* pointer, bool is_shared) {
  auto const* const at = static_cast<unsigned char const*>(pointer);
  bool const inside =
      at >= emulator::shared_memory && at + 16 <= emulator::shared_memory + emulator::shared_bytes;
  if (reinterpret_cast<uintptr_t>(at) % 16 != 0 || inside != is_shared) {
    std::fprintf(stderr, "emulator: bad address of 16 bytes, %s\n",
                 is_shared ? "shared" : "global");
    std::abort();
  }
}

// Done at once: the earliest that hardware might.
inline void copy_async(void* shared, void const* global) {
  check_address(shared, true);
  check_address(global, false);
  std::memcpy(shared, global, 16);
}

inline void commit_copies() {}

template <int Pending>
inline void wait_for_copies() {}

inline uint4 read_once(void const* global) {
  check_address(global, false);
  return *static_cast<uint4 const*>(global);
}

struct Matrices {
  void const* row;
  uint32_t* out;
};

template <bool Transposed>
void load_matrices_of_warp(void* const (&lanes)[emulator::kWarp]) {
  for (int lane = 0; lane < emulator::kWarp; ++lane) {
    for (int matrix = 0; matrix < 4; ++matrix) {
      uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        int row = lane / 4, column = lane % 4 * 2 + i;
        if (Transposed) std::swap(row, column);
        auto const* const from = static_cast<Matrices*>(lanes[matrix * 8 + row]);
        std::memcpy(&pair[i], static_cast<uint16_t const*>(from->row) + column, 2);
      }
      std::memcpy(static_cast<Matrices*>(lanes[lane])->out + matrix, pair, 4);
    }
  }
}

inline void load_matrices(uint32_t (&r)[4], void const* row) {
  check_address(row, true);
  Matrices mine{row, r};
  emulator::together(&mine, load_matrices_of_warp<false>);
}

inline void load_matrices_transposed(uint32_t (&r)[4], void const* row) {
  check_address(row, true);
  Matrices mine{row, r};
  emulator::together(&mine, load_matrices_of_warp<true>);
}

inline float exp2_fast(float x) { return std::exp2(x); }
inline float reciprocal_fast(float x) { return 1.f / x; }

template <typename T>
struct Product {
  float (*c)[4];
  uint32_t a[4], b[2];
};

template <typename T>
float half_of(uint32_t both, int which) {
  uint16_t const bits = static_cast<uint16_t>(both >> (16 * which));
  T value;
  std::memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

template <typename T>
void multiply_of_warp(void* const (&lanes)[emulator::kWarp]) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < emulator::kWarp; ++lane) {
    auto const* const mine = static_cast<Product<T>*>(lanes[lane]);
    for (int i = 0; i < 2; ++i) {
      int const column = lane % 4 * 2 + i;
      for (int part = 0; part < 4; ++part) {
        a[lane / 4 + part % 2 * 8][column + part / 2 * 8] = half_of<T>(mine->a[part], i);
      }
      for (int part = 0; part < 2; ++part) {
        b[column + part * 8][lane / 4] = half_of<T>(mine->b[part], i);
      }
    }
  }
  for (int lane = 0; lane < emulator::kWarp; ++lane) {
    auto const* const mine = static_cast<Product<T>*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      int const row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      double sum = (*mine->c)[i];
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(a[row][k]) * b[k][column];
      (*mine->c)[i] = static_cast<float>(sum);
    }
  }
}

template <typename T>
void multiply_tiles(float (&c)[4], uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
  Product<T> mine{&c, {a[0], a[1], a[2], a[3]}, {b0, b1}};
  emulator::together(&mine, multiply_of_warp<T>);
}

}  // namespace samtrt
