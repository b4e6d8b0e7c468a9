// From an image to the encoder's input, and from the decoder's logits to a mask.
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

namespace samtrt {

struct Image {
  int height, width;
  std::vector<uint8_t> rgb;  // height x width x 3
};

// Where an image lies in a square: from its upper left corner on, the rest is padding.
struct Frame {
  int side, height, width;
  Frame(Model const& model, Image const& image, int side);
};

// Resizes as Pillow does (bilinear, antialiased, whole values), normalises, pads with zeros:
// 3 x side x side.
std::vector<float> prepare(Model const& model, Image const& image);

// Brings low-res logits, mask_size x mask_size, to the image's size: 255 where they exceed the
// model's threshold, else 0.
std::vector<uint8_t> form_mask(Model const& model, Image const& image, float const* logits);

}  // namespace samtrt
