// Runs pixels.cpp alone: arguments, then an image and logits on standard input; on standard output
// the encoder's input and the mask.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "pixels.h"

int main(int count, char** words) {
  if (count != 8) return 2;
  samtrt::Model model{};
  model.image_size = std::atoi(words[1]), model.input_size = std::atoi(words[2]);
  model.mask_size = std::atoi(words[3]);
  model.scale = words[4], model.stretched = std::atoi(words[5]);
  model.mean = {10, 20, 30}, model.std = {1, 2, 4};
  if (model.scale != "0..255") model.mean = {0.25f, 0.5f, 0}, model.std = {0.5f, 0.25f, 1};
  samtrt::Image image{std::atoi(words[6]), std::atoi(words[7]), {}};
  image.rgb.resize(size_t(image.height) * image.width * 3);
  std::vector<float> logits(size_t(model.mask_size) * model.mask_size);
  if (std::fread(image.rgb.data(), 1, image.rgb.size(), stdin) != image.rgb.size()) return 2;
  if (std::fread(logits.data(), 4, logits.size(), stdin) != logits.size()) return 2;
  auto const input = samtrt::prepare(model, image);
  auto const mask = samtrt::form_mask(model, image, logits.data());
  std::fwrite(input.data(), 4, input.size(), stdout);
  std::fwrite(mask.data(), 1, mask.size(), stdout);
}
