// Segments one object of an image with a model directory of samtrt.
//
// segment-onnxruntime DIR IMAGE [--point X,Y[,LABEL]]... [--box X1,Y1,X2,Y2] -o MASK.png

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine.h"
#include "image_file.h"
#include "model.h"
#include "pixels.h"

namespace samtrt {
namespace {

constexpr char kUsage[] =
    "DIR IMAGE [--point X,Y[,LABEL]]... [--box X1,Y1,X2,Y2] -o MASK.png (in pixels; LABEL is 1 "
    "for the object, which is the default, 0 for what is none of it)";

struct Arguments {
  std::string directory, image, output;
  std::vector<std::vector<double>> points;  // x, y, label
  std::vector<double> box;
};

std::vector<double> numbers_of(std::string const& text, std::string const& option) {
  std::vector<double> numbers;
  char const* at = text.c_str();
  for (char* end; *at; at = *end ? end + 1 : end) {
    numbers.push_back(std::strtod(at, &end));
    bool const more = *end == ',' && end[1];
    if (end == at || (*end && !more) || !(std::abs(numbers.back()) <= 1e30)) {
      numbers.clear();
      break;
    }
  }
  size_t const count = numbers.size();
  if (option == "--point" ? count != 2 && count != 3 : count != 4) {
    throw std::runtime_error(option + " takes numbers of pixels, " +
                             (option == "--point" ? "x,y or x,y,label" : "x1,y1,x2,y2") +
                             ", not '" + text + "'");
  }
  return numbers;
}

Arguments parse(int count, char** words) {
  Arguments found;
  std::vector<std::string> places;
  for (int i = 1; i < count; ++i) {
    std::string const word = words[i];
    if (word.empty() || word[0] != '-') {
      places.push_back(word);
      continue;
    }
    bool const known = word == "--point" || word == "--box" || word == "-o";
    if (!known || i + 1 == count) throw std::runtime_error(std::string("usage: ") + kUsage);
    std::string const value = words[++i];
    if (word == "-o") found.output = value;
    if (word == "--box") found.box = numbers_of(value, word);
    if (word == "--point") {
      found.points.push_back(numbers_of(value, word));
      found.points.back().resize(3, 1);
    }
  }
  if (places.size() != 2 || found.output.empty() || (found.points.empty() && found.box.empty())) {
    throw std::runtime_error(std::string("usage: ") + kUsage);
  }
  found.directory = places[0], found.image = places[1];
  return found;
}

void check_prompts(Arguments const& asked, Image const& image) {
  std::string const size =
      "the image, which is " + std::to_string(image.width) + " x " + std::to_string(image.height);
  for (auto const& point : asked.points) {
    if (point[2] != 0 && point[2] != 1) throw std::runtime_error("a point's label is 1 or 0");
    if (point[0] < 0 || point[1] < 0 || point[0] >= image.width || point[1] >= image.height) {
      throw std::runtime_error("a point is outside " + size);
    }
  }
  auto const& box = asked.box;
  if (box.empty()) return;
  if (box[2] <= box[0] || box[3] <= box[1]) {
    throw std::runtime_error("the box is empty: it is x1,y1,x2,y2 with x1 < x2 and y1 < y2");
  }
  if (box[2] <= 0 || box[3] <= 0 || box[0] >= image.width || box[1] >= image.height) {
    throw std::runtime_error("the box is outside " + size);
  }
}

// Adds a prompt's inputs to those that hold the image.
void add_prompt(Tensors& inputs, Arguments const& asked, Model const& model, Image const& image) {
  Frame const frame(model, image, model.image_size);
  std::vector<float> coords, labels;
  auto add = [&](double x, double y, double label) {
    coords.push_back(float(x * (double(frame.width) / image.width)));
    coords.push_back(float(y * (double(frame.height) / image.height)));
    labels.push_back(float(label));
  };
  for (auto const& point : asked.points) add(point[0], point[1], point[2]);
  if (asked.box.empty()) {
    add(0, 0, -1);  // where there is no box, a point that is none stands for it
  } else {
    add(asked.box[0], asked.box[1], 2);
    add(asked.box[2], asked.box[3], 3);
  }
  int64_t const count = int64_t(labels.size()), side = model.mask_size;
  inputs["point_coords"] = {{1, count, 2}, coords};
  inputs["point_labels"] = {{1, count}, labels};
  inputs["mask_input"] = {{1, 1, side, side}, std::vector<float>(size_t(side) * side)};
  inputs["has_mask_input"] = {{1}, {0}};
}

void segment(Arguments const& asked) {
  Model const model = Model::load(asked.directory);
  Image const image = read_image(asked.image);
  check_prompts(asked, image);

  int64_t const side = model.input_size;
  Tensors inputs =
      open_engine(model, "encoder")->run({{"images", {{1, 3, side, side}, prepare(model, image)}}});
  add_prompt(inputs, asked, model, image);
  Tensors const answer = open_engine(model, "decoder")->run(inputs);

  // Four masks: the first for a prompt that is clear, the best of the others for one point alone.
  auto const& scores = answer.at("iou_predictions").values;
  bool const alone = asked.box.empty() && asked.points.size() == 1;
  auto const best = alone ? std::max_element(scores.begin() + 1, scores.end()) : scores.begin();
  float const* logits = answer.at("low_res_masks").values.data() +
                        (best - scores.begin()) * size_t(model.mask_size) * model.mask_size;
  if (!std::isfinite(*best) || !std::isfinite(*logits)) {
    throw std::runtime_error("the engine's results are no numbers; see: samtrt verify");
  }
  auto const mask = form_mask(model, image, logits);
  write_mask(asked.output, image, mask);
  std::printf("score %.3f, %td pixels: %s\n", *best, std::count(mask.begin(), mask.end(), 255),
              asked.output.c_str());
}

}  // namespace
}  // namespace samtrt

int main(int count, char** words) {
  try {
    samtrt::segment(samtrt::parse(count, words));
    return 0;
  } catch (std::exception const& error) {
    std::string const text = error.what();
    std::fprintf(stderr, "%s: error: %s\n", words[0], text.substr(0, text.find('\n')).c_str());
    return 2;
  }
}
