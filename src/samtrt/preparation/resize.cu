// From pixels to the encoder's input: Pillow's resize (Resample.c, 8 bits a channel: one axis after
// the other, rounded to 8 bits each time), normalised and padded.
//
// Weights are Pillow's, in fixed point of kBits bits: `firsts` is the first source pixel of each
// result, `weights` [n, taps].

constexpr int kBits = 22;

__device__ inline int to_byte(int sum) {
  int const value = sum >> kBits;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

// Resize one axis of bytes to out [h, w, 4]. The source's pixels are `pixel` bytes apart, its lines
// `line`; `size` is how many pixels the axis had.
extern "C" __global__ void __launch_bounds__(128)
    resize_axis(unsigned char const* source, int pixel, long long line, int const* firsts,
                int const* weights, int taps, int size, int along_x, int width, unsigned* out) {
  int const x = blockIdx.y * 128 + threadIdx.x, y = blockIdx.x;
  if (x >= width) return;
  int const to = along_x ? x : y, first = firsts[to], used = min(taps, size - first);
  long long const step = along_x ? pixel : line;
  int sums[3] = {1 << (kBits - 1), 1 << (kBits - 1), 1 << (kBits - 1)};
  unsigned char const* from =
      source + first * step + (along_x ? y * line : x * static_cast<long long>(pixel));
  for (int tap = 0; tap < used; ++tap, from += step) {
    int const weight = weights[static_cast<long long>(to) * taps + tap];
    for (int channel = 0; channel < 3; ++channel) sums[channel] += from[channel] * weight;
  }
  out[static_cast<long long>(y) * width + x] =
      to_byte(sums[0]) | to_byte(sums[1]) << 8 | to_byte(sums[2]) << 16;
}

// The same without rounding: real numbers [h, w, 3], from bytes or from real numbers, with weights
// that add up to 1. Pillow sums in double precision and stores single.
extern "C" __global__ void __launch_bounds__(128)
    resize_axis_real(void const* source, int is_bytes, int pixel, long long line, int const* firsts,
                     double const* weights, int taps, int size, int along_x, int width,
                     float* out) {
  int const x = blockIdx.y * 128 + threadIdx.x, y = blockIdx.x;
  if (x >= width) return;
  int const to = along_x ? x : y, first = firsts[to], used = min(taps, size - first);
  long long const step = along_x ? pixel : line;
  long long from = first * step + (along_x ? y * line : x * static_cast<long long>(pixel));
  double sums[3] = {0., 0., 0.};
  for (int tap = 0; tap < used; ++tap, from += step) {
    double const weight = weights[static_cast<long long>(to) * taps + tap];
    for (int channel = 0; channel < 3; ++channel) {
      double const value = is_bytes ? static_cast<unsigned char const*>(source)[from + channel]
                                    : static_cast<float const*>(source)[from + channel];
      sums[channel] += value * weight;
    }
  }
  float* const result = out + (static_cast<long long>(y) * width + x) * 3;
  for (int channel = 0; channel < 3; ++channel) result[channel] = static_cast<float>(sums[channel]);
}

// The least and greatest byte of bytes [n]: range [2], 255 - least and greatest, zeros before.
extern "C" __global__ void __launch_bounds__(256)
    find_range(unsigned const* bytes, int count, int* range) {
  int least = 255, greatest = 0;
  for (int i = blockIdx.x * 256 + threadIdx.x; i < count; i += gridDim.x * 256) {
    for (int channel = 0; channel < 3; ++channel) {
      int const value = bytes[i] >> (8 * channel) & 255;
      least = min(least, value);
      greatest = max(greatest, value);
    }
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    least = min(least, __shfl_xor_sync(~0u, least, lanes));
    greatest = max(greatest, __shfl_xor_sync(~0u, greatest, lanes));
  }
  if (threadIdx.x % 32 == 0) {
    atomicMax(range, 255 - least);
    atomicMax(range + 1, greatest);
  }
}

// bytes [h, w, 4] to out [3, S, S], zeros beyond h and w. Channels are swapped where `reversed`.
// As the host computes it: (value * factor - mean) / std with factor 1, or 1 / 255, or first to
// the image's own range. `normal` holds three means, then three deviations.
extern "C" __global__ void __launch_bounds__(128)
    normalize(unsigned const* bytes, int height, int width, int side, int reversed, int scale,
              int const* range, float const* normal, float* out) {
  int const x = blockIdx.x * 128 + threadIdx.x, y = blockIdx.y;
  if (x >= side) return;
  bool const inside = x < width && y < height;
  unsigned const pixel = inside ? bytes[static_cast<long long>(y) * width + x] : 0;
  for (int channel = 0; channel < 3; ++channel) {
    float value = 0.f;
    if (inside) {
      int const from = reversed ? 2 - channel : channel;
      value = static_cast<float>(pixel >> (8 * from) & 255);
      if (scale == 1) value = __fdiv_rn(value, 255.f);
      if (scale == 2) {
        float const least = 255 - range[0], greatest = range[1];
        value = __fdiv_rn(value - least, fmaxf(greatest - least, 1.f));
      }
      value = __fdiv_rn(value - normal[channel], normal[3 + channel]);
    }
    out[(static_cast<long long>(channel) * side + y) * side + x] = value;
  }
}

// As `normalize`, of real numbers [h, w, 3]; they have no range of their own (scale 0 or 1).
extern "C" __global__ void __launch_bounds__(128)
    normalize_real(float const* values, int height, int width, int side, int reversed, int scale,
                   float const* normal, float* out) {
  int const x = blockIdx.x * 128 + threadIdx.x, y = blockIdx.y;
  if (x >= side) return;
  bool const inside = x < width && y < height;
  for (int channel = 0; channel < 3; ++channel) {
    float value = 0.f;
    if (inside) {
      int const from = reversed ? 2 - channel : channel;
      value = values[(static_cast<long long>(y) * width + x) * 3 + from];
      if (scale == 1) value = __fdiv_rn(value, 255.f);
      value = __fdiv_rn(value - normal[channel], normal[3 + channel]);
    }
    out[(static_cast<long long>(channel) * side + y) * side + x] = value;
  }
}
