// A decoder's pixels, uint8 [H, W, 3] with any strides, to an array without gaps: turned upright.

// `first` is where the upright picture's first pixel is, `line` and `pixel` are the steps, in bytes
// and of either sign, to the next line and the next pixel.
extern "C" __global__ void __launch_bounds__(128)
    gather(unsigned char const* source, long long first, long long line, long long pixel, int width,
           unsigned char* out) {
  int const x = blockIdx.y * 128 + threadIdx.x, y = blockIdx.x;
  if (x >= width) return;
  unsigned char const* const from = source + first + y * line + x * pixel;
  unsigned char* const to = out + (static_cast<long long>(y) * width + x) * 3;
  for (int channel = 0; channel < 3; ++channel) to[channel] = from[channel];
}
