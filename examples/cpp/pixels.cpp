#include "pixels.h"

#include <algorithm>
#include <cmath>

namespace samtrt {
namespace {

using Plane = std::vector<uint8_t>;

// What one pixel of a resized line is a weighted mean of.
struct Taps {
  int first;
  std::vector<int> weights;
};

constexpr int kBits = 22;  // of the weights, which are whole as Pillow's are: 1 is 1 << kBits

// Of a line of `from` pixels that becomes one of `to`: a triangle as wide as what a pixel covers.
std::vector<Taps> taps_of(int from, int to) {
  std::vector<Taps> all(to);
  double const scale = double(from) / to, support = std::max(scale, 1.0);
  for (int i = 0; i < to; ++i) {
    double const centre = (i + 0.5) * scale;
    all[i].first = std::max(int(centre - support + 0.5), 0);
    int const last = std::min(int(centre + support + 0.5), from);
    std::vector<double> exact;
    double sum = 0;
    for (int x = all[i].first; x < last; ++x) {
      exact.push_back(std::max(1 - std::abs((x - centre + 0.5) * (1 / support)), 0.0));
      sum += exact.back();
    }
    for (double weight : exact) all[i].weights.push_back(int(0.5 + weight / sum * (1 << kBits)));
  }
  return all;
}

// Where pixels lie: those of a line `step` apart, the beginnings of lines `next` apart.
struct Layout {
  int step, next;
};

Plane resize_lines(Plane const& in, int lines, int from, Layout source, int to, Layout target) {
  Plane out(size_t(lines) * to);
  auto const all = taps_of(from, to);
  for (int i = 0; i < to; ++i) {
    for (int line = 0; line < lines; ++line) {
      uint8_t const* at = &in[size_t(line) * source.next + size_t(all[i].first) * source.step];
      int sum = 1 << (kBits - 1);
      for (int weight : all[i].weights) {
        sum += weight * *at;
        at += source.step;
      }
      out[size_t(line) * target.next + size_t(i) * target.step] = uint8_t(sum >> kBits);
    }
  }
  return out;
}

// Along one axis, then along the other, each to whole values. As in Pillow from 13 on the height
// goes first where it loses more than twice what the width does; another order is one step off.
Plane resize(Plane plane, int height, int width, int to_height, int to_width) {
  auto along_y = [&] {
    if (height == to_height) return;
    plane = resize_lines(plane, width, height, {width, 1}, to_height, {width, 1});
    height = to_height;
  };
  bool const height_first =
      height > to_height && height - to_height > 2 * int64_t(width - to_width);
  if (height_first) along_y();
  if (width != to_width) {
    plane = resize_lines(plane, height, width, {1, width}, to_width, {1, to_width});
    width = to_width;
  }
  along_y();
  return plane;
}

// Where between two pixels a pixel of a stretched line lies, by their centres.
struct Between {
  int low, high;
  float share;
  Between(int i, int from, int to) {
    double const at = std::clamp((i + 0.5) * from / to - 0.5, 0.0, double(from - 1));
    low = int(at), high = std::min(low + 1, from - 1), share = float(at - low);
  }
  float of(float a, float b) const { return a + (b - a) * share; }
};

// Resizes the upper left `height` x `width` values of lines of `stride`, bilinearly (OpenCV's
// INTER_LINEAR, PyTorch's align_corners=False), and hands each value on.
template <typename Take>
void stretch(float const* in, int stride, int height, int width, int to_height, int to_width,
             Take take) {
  std::vector<Between> columns;
  for (int x = 0; x < to_width; ++x) columns.emplace_back(x, width, to_width);
  for (int y = 0; y < to_height; ++y) {
    Between const row(y, height, to_height);
    float const *above = in + size_t(row.low) * stride, *below = in + size_t(row.high) * stride;
    for (auto const& x : columns) {
      take(row.of(x.of(above[x.low], above[x.high]), x.of(below[x.low], below[x.high])));
    }
  }
}

}  // namespace

Frame::Frame(Model const& model, Image const& image, int side)
    : side(side), height(side), width(side) {
  if (model.stretched) return;
  double const scale = double(side) / std::max(image.height, image.width);
  height = std::max(int(image.height * scale + 0.5), 1);
  width = std::max(int(image.width * scale + 0.5), 1);
}

std::vector<float> prepare(Model const& model, Image const& image) {
  Frame const frame(model, image, model.input_size);
  std::vector<Plane> planes(3, Plane(size_t(image.height) * image.width));
  uint8_t least = 255, most = 0;
  for (int c = 0; c < 3; ++c) {
    for (size_t i = 0; i < planes[c].size(); ++i) planes[c][i] = image.rgb[3 * i + c];
    planes[c] = resize(std::move(planes[c]), image.height, image.width, frame.height, frame.width);
    auto const [low, high] = std::minmax_element(planes[c].begin(), planes[c].end());
    least = std::min(least, *low), most = std::max(most, *high);
  }
  float low = 0, span = 1;
  if (model.scale == "0..1") span = 255;
  if (model.scale == "minmax") low = least, span = std::max(float(most - least), 1.0f);
  std::vector<float> input(size_t(3) * frame.side * frame.side);
  for (int c = 0; c < 3; ++c) {
    for (int y = 0; y < frame.height; ++y) {
      float* line = &input[(size_t(c) * frame.side + y) * frame.side];
      uint8_t const* pixels = &planes[c][size_t(y) * frame.width];
      for (int x = 0; x < frame.width; ++x) {
        line[x] = ((pixels[x] - low) / span - model.mean[c]) / model.std[c];
      }
    }
  }
  return input;
}

std::vector<uint8_t> form_mask(Model const& model, Image const& image, float const* logits) {
  // By way of the square, whose padding is cut off (segment_anything, `Sam.postprocess_masks`).
  Frame const frame(model, image, model.image_size);
  std::vector<float> square;
  square.reserve(size_t(frame.side) * frame.side);
  stretch(logits, model.mask_size, model.mask_size, model.mask_size, frame.side, frame.side,
          [&](float value) { square.push_back(value); });
  std::vector<uint8_t> mask;
  mask.reserve(size_t(image.height) * image.width);
  stretch(square.data(), frame.side, frame.height, frame.width, image.height, image.width,
          [&](float value) { mask.push_back(value > model.mask_threshold ? 255 : 0); });
  return mask;
}

}  // namespace samtrt
