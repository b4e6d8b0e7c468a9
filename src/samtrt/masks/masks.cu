// From low-res logits to masks at the image's size, many at once: see upscaling.py for the two
// resizes as one weighted mean, of at most 3 x 3 cells a pixel.
//
// `logits` holds planes of cells x cells; `planes` names those to work on, blockIdx.y counts them.
// `ys` and `xs` are the weights of every row and column. A thread walks down kColumns adjacent
// columns and keeps what three rows of cells give there, so that a pixel takes three products. Sums
// have one order everywhere: a pixel is the same to all.

struct __align__(16) Taps {
  float weights[3];
  int first;  // the cell of the first weight
};

constexpr int kColumns = 4;
constexpr int kFar = 1 << 30;  // beyond every column and row

__device__ inline float mean(Taps const& taps, float a, float b, float c) {
  return fmaf(taps.weights[2], c, fmaf(taps.weights[1], b, taps.weights[0] * a));
}

__device__ inline float mean_of_row(float const* row, Taps const& taps) {
  float const* const cells = row + taps.first;
  return mean(taps, cells[0], cells[1], cells[2]);
}

__device__ inline float pixel(float const* plane, int cells, Taps const& y, Taps const& x) {
  float const* const row = plane + static_cast<long long>(y.first) * cells;
  return mean(y, mean_of_row(row, x), mean_of_row(row + cells, x), mean_of_row(row + 2 * cells, x));
}

__device__ inline float const* plane_of(float const* logits, int const* planes, int cells) {
  return logits + static_cast<long long>(planes[blockIdx.y]) * cells * cells;
}

// Call visit(y, values) for rows top .. bottom of the columns from `left` on. Columns beyond the
// last are copies of it.
template <typename Visit>
__device__ inline void walk(float const* plane, int cells, Taps const* ys, Taps const* xs,
                            int width, int left, int top, int bottom, Visit visit) {
  Taps columns[kColumns];
  float rows[3][kColumns];
  int held = ys[top].first;
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    columns[i] = xs[min(left + i, width - 1)];
#pragma unroll
    for (int row = 0; row < 3; ++row) {
      rows[row][i] = mean_of_row(plane + static_cast<long long>(held + row) * cells, columns[i]);
    }
  }
  for (int y = top; y < bottom; ++y) {
    Taps const taps = ys[y];
    while (held < taps.first) {
      ++held;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        rows[0][i] = rows[1][i];
        rows[1][i] = rows[2][i];
        rows[2][i] = mean_of_row(plane + static_cast<long long>(held + 2) * cells, columns[i]);
      }
    }
    float values[kColumns];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      values[i] = mean(taps, rows[0][i], rows[1][i], rows[2][i]);
    }
    visit(y, values);
  }
}

// Count pixels above `raised`, `lowered` and `threshold`, and bound those above `threshold`.
// facts [K, 7], zeros before: the three counts, kFar - x1, x2 + 1, kFar - y1, y2 + 1.
// Planes whose score is not above `least_score` are left out where `scores` is given.
extern "C" __global__ void __launch_bounds__(128)
    measure_masks(float const* logits, int const* planes, float const* scores, float least_score,
                  Taps const* ys, Taps const* xs, int cells, int height, int width, int strip,
                  float raised, float lowered, float threshold, int* facts) {
  if (scores != nullptr && !(scores[planes[blockIdx.y]] > least_score)) return;
  int const groups = (width + kColumns * 128 - 1) / (kColumns * 128);
  int const left = ((blockIdx.x % groups) * 128 + threadIdx.x) * kColumns;
  int const top = blockIdx.x / groups * strip, bottom = min(top + strip, height);
  int in_raised = 0, in_lowered = 0, area = 0;
  int x1 = kFar, x2 = -1, y1 = kFar, y2 = -1;
  if (left < width) {
    int const used = min(kColumns, width - left);
    bool seen[kColumns] = {};
    walk(plane_of(logits, planes, cells), cells, ys, xs, width, left, top, bottom,
         [&](int y, float const(&values)[kColumns]) {
           bool any = false;
#pragma unroll
           for (int i = 0; i < kColumns; ++i) {
             if (i < used) {
               bool const is_mask = values[i] > threshold;
               in_raised += values[i] > raised;
               in_lowered += values[i] > lowered;
               area += is_mask;
               seen[i] |= is_mask;
               any |= is_mask;
             }
           }
           if (any) {
             y1 = min(y1, y);
             y2 = y;
           }
         });
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      if (seen[i]) {
        x1 = min(x1, left + i);
        x2 = left + i;
      }
    }
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    in_raised += __shfl_xor_sync(~0u, in_raised, lanes);
    in_lowered += __shfl_xor_sync(~0u, in_lowered, lanes);
    area += __shfl_xor_sync(~0u, area, lanes);
    x1 = min(x1, __shfl_xor_sync(~0u, x1, lanes));
    x2 = max(x2, __shfl_xor_sync(~0u, x2, lanes));
    y1 = min(y1, __shfl_xor_sync(~0u, y1, lanes));
    y2 = max(y2, __shfl_xor_sync(~0u, y2, lanes));
  }
  if (threadIdx.x % 32 != 0 || (in_raised | in_lowered | area) == 0) return;
  int* const mine = facts + static_cast<long long>(blockIdx.y) * 7;
  atomicAdd(mine, in_raised);
  atomicAdd(mine + 1, in_lowered);
  if (area == 0) return;
  atomicAdd(mine + 2, area);
  atomicMax(mine + 3, kFar - x1);
  atomicMax(mine + 4, x2 + 1);
  atomicMax(mine + 5, kFar - y1);
  atomicMax(mine + 6, y2 + 1);
}

// Write values to out [K, H, W], as `store` does for kColumns of them or for one.
template <typename T, typename Convert>
__device__ inline void form(float const* logits, int const* planes, Taps const* ys, Taps const* xs,
                            int cells, int height, int width, int strip, T* out, Convert convert) {
  int const groups = (width + kColumns * 128 - 1) / (kColumns * 128);
  int const left = ((blockIdx.x % groups) * 128 + threadIdx.x) * kColumns;
  int const top = blockIdx.x / groups * strip, bottom = min(top + strip, height);
  if (left >= width) return;
  T* const mine = out + static_cast<long long>(blockIdx.y) * height * width + left;
  struct __align__(sizeof(T) * kColumns) Together {
    T values[kColumns];
  };
  bool const aligned = width % kColumns == 0;
  walk(plane_of(logits, planes, cells), cells, ys, xs, width, left, top, bottom,
       [&](int y, float const(&values)[kColumns]) {
         T* const row = mine + static_cast<long long>(y) * width;
         if (aligned) {
           Together four;
#pragma unroll
           for (int i = 0; i < kColumns; ++i) four.values[i] = convert(values[i]);
           *reinterpret_cast<Together*>(row) = four;
         } else {
#pragma unroll
           for (int i = 0; i < kColumns; ++i) {
             if (left + i < width) row[i] = convert(values[i]);
           }
         }
       });
}

extern "C" __global__ void __launch_bounds__(128)
    form_logits(float const* logits, int const* planes, Taps const* ys, Taps const* xs, int cells,
                int height, int width, int strip, float* out) {
  form(logits, planes, ys, xs, cells, height, width, strip, out, [](float v) { return v; });
}

extern "C" __global__ void __launch_bounds__(128)
    form_masks(float const* logits, int const* planes, Taps const* ys, Taps const* xs, int cells,
               int height, int width, int strip, float threshold, unsigned char* out) {
  form(logits, planes, ys, xs, cells, height, width, strip, out,
       [threshold](float v) { return static_cast<unsigned char>(v > threshold); });
}

// A mask lies in an image whose pixels are numbered column by column: the first of the mask's has
// the number `first`, those of the next column `stride` more; the image has `total`.
struct Place {
  int first, stride, total;
};

// Call visit(column of the thread's, number) for every edge: a pixel that is mask where the one
// before is not, or the other way about. All around the mask is background.
template <typename Visit>
__device__ inline void find_edges(float const* logits, int const* planes, Taps const* ys,
                                  Taps const* xs, int cells, int height, int width, float threshold,
                                  Place place, int left, Visit visit) {
  float const* const plane = plane_of(logits, planes, cells);
  int const used = min(kColumns, width - left);
  // Where the mask has the image's height, the foot of a column comes before the next one's head.
  bool const joined = place.stride == height;
  bool before[kColumns];
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    int const x = min(left + i, width - 1) - 1;
    before[i] = joined && x >= 0 && pixel(plane, cells, ys[height - 1], xs[x]) > threshold;
  }
  walk(plane, cells, ys, xs, width, left, 0, height, [&](int y, float const(&values)[kColumns]) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      bool const is_mask = values[i] > threshold;
      if (i < used && is_mask != before[i]) visit(i, place.first + (left + i) * place.stride + y);
      before[i] = is_mask;
    }
  });
#pragma unroll
  for (int i = 0; i < kColumns; ++i) {
    int const after = place.first + (left + i) * place.stride + height;
    bool const ends = !joined || left + i == width - 1;
    if (i < used && ends && before[i] && after < place.total) visit(i, after);
  }
}

// counts [K, W]: the edges of each column.
extern "C" __global__ void __launch_bounds__(64)
    count_edges(float const* logits, int const* planes, Taps const* ys, Taps const* xs, int cells,
                int height, int width, float threshold, int first, int stride, int total,
                int* counts) {
  int const left = (blockIdx.x * 64 + threadIdx.x) * kColumns;
  if (left >= width) return;
  int found[kColumns] = {};
  Place const place{first, stride, total};
  find_edges(logits, planes, ys, xs, cells, height, width, threshold, place, left,
             [&](int column, int) {
#pragma unroll
               for (int i = 0; i < kColumns; ++i) found[i] += i == column;
             });
  int* const mine = counts + static_cast<long long>(blockIdx.y) * width + left;
  for (int i = 0; i < kColumns; ++i) {
    if (left + i < width) mine[i] = found[i];
  }
}

// counts [K, W] become the number of edges before each column, in its mask; totals [K], in all.
extern "C" __global__ void __launch_bounds__(256) sum_edges(int* counts, int width, int* totals) {
  __shared__ int sums[256];
  int* const mine = counts + static_cast<long long>(blockIdx.y) * width;
  int const share = (width + 255) / 256, begin = threadIdx.x * share;
  int const end = min(begin + share, width);
  int sum = 0;
  for (int x = begin; x < end; ++x) sum += mine[x];
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int step = 1; step < 256; step *= 2) {
    int const other = threadIdx.x >= step ? sums[threadIdx.x - step] : 0;
    __syncthreads();
    sums[threadIdx.x] += other;
    __syncthreads();
  }
  if (threadIdx.x == 255) totals[blockIdx.y] = sums[255];
  sum = sums[threadIdx.x] - sum;
  for (int x = begin; x < end; ++x) {
    int const count = mine[x];
    mine[x] = sum;
    sum += count;
  }
}

// edges: those of one mask after the other's, each mask's from begins [K] on.
extern "C" __global__ void __launch_bounds__(64)
    write_edges(float const* logits, int const* planes, Taps const* ys, Taps const* xs, int cells,
                int height, int width, float threshold, int first, int stride, int total,
                int const* counts, long long const* begins, int* edges) {
  int const left = (blockIdx.x * 64 + threadIdx.x) * kColumns;
  if (left >= width) return;
  int const* const before = counts + static_cast<long long>(blockIdx.y) * width;
  int next[kColumns];
#pragma unroll
  for (int i = 0; i < kColumns; ++i) next[i] = before[min(left + i, width - 1)];
  int* const mine = edges + begins[blockIdx.y];
  Place const place{first, stride, total};
  find_edges(logits, planes, ys, xs, cells, height, width, threshold, place, left,
             [&](int column, int number) {
#pragma unroll
               for (int i = 0; i < kColumns; ++i) {
                 if (i == column) mine[next[i]++] = number;
               }
             });
}

// lengths: of the runs between a mask's edges, the first from 0 and the last to `total`. Each mask
// has one more of them than edges.
extern "C" __global__ void __launch_bounds__(256)
    measure_runs(int const* edges, long long const* begins, int const* totals, int total,
                 int* lengths) {
  int const count = totals[blockIdx.y];
  int const* const mine = edges + begins[blockIdx.y];
  int* const to = lengths + begins[blockIdx.y] + blockIdx.y;
  for (int i = blockIdx.x * 256 + threadIdx.x; i <= count; i += gridDim.x * 256) {
    to[i] = (i < count ? mine[i] : total) - (i > 0 ? mine[i - 1] : 0);
  }
}
