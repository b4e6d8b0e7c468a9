// A model directory: what its manifest, samtrt.json, says of preparation, prompts and masks.
#pragma once

#include <array>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace samtrt {

struct File {
  std::string name, sha256;
};

struct Model {
  std::filesystem::path directory;
  int image_size;  // side of the square that prompts are in
  int input_size;  // side of the encoder's input
  int mask_size;   // side of low-res logits
  float mask_threshold;
  std::array<float, 3> mean, std;
  std::string scale;  // the range that mean and std are given in: 0..255, 0..1 or minmax
  bool stretched;     // to the square; else the longest side fills it
  std::map<std::string, std::vector<File>> files;  // of each stage: the graph, then its weights

  // Reads a manifest, and looks at its files' sizes. Throws where this program cannot run the
  // model: it would give plausible masks, and wrong ones.
  static Model load(std::filesystem::path const& directory);

  std::filesystem::path graph(std::string const& stage) const;
};

}  // namespace samtrt
