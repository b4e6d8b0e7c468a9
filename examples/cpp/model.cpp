#include "model.h"

#include <fstream>
#include <stdexcept>

#include "json_file.h"

namespace samtrt {
namespace {

constexpr int kFormat = 4;

// Refuses a manifest that asks for anything but `known`.
void check(nlohmann::json const& said, char const* name,
           std::initializer_list<nlohmann::json> known) {
  for (auto const& one : known) {
    if (said.at(name) == one) return;
  }
  throw std::runtime_error(std::string("this program runs no model whose ") + name + " is " +
                           said.at(name).dump() + "; use the Python package or samtrt serve");
}

// Looks at a file's size alone; `samtrt info` looks at what it holds.
File checked(std::filesystem::path const& directory, nlohmann::json const& said) {
  File const file{said.at("name"), said.at("sha256")};
  std::error_code missing;
  if (std::filesystem::file_size(directory / file.name, missing) != said.at("size") || missing) {
    throw std::runtime_error((directory / file.name).string() +
                             " is not the file that samtrt.json names; export the model again");
  }
  return file;
}

}  // namespace

nlohmann::json read_json(std::filesystem::path const& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path.string());
  auto said = nlohmann::json::parse(file, nullptr, false);
  if (!said.is_object()) throw std::runtime_error(path.string() + " holds no JSON object");
  return said;
}

Model Model::load(std::filesystem::path const& directory) {
  auto const path = directory / "samtrt.json";
  if (!std::filesystem::is_regular_file(path)) {
    throw std::runtime_error("no model in " + directory.string() +
                             "; make one with: samtrt export");
  }
  auto const said = read_json(path);
  try {
    check(said, "format", {kFormat});
    check(said, "generation", {"sam"});
    check(said, "mask_choice", {"sam", "best"});
    auto const& prepared = said.at("preparation");
    check(prepared, "resize", {"longest", "stretch"});
    check(prepared, "filter", {"bilinear"});
    check(prepared, "rounded", {true});
    check(prepared, "scale", {"0..255", "0..1", "minmax"});
    for (auto const& map : said.at("maps")) check(map, "dtype", {"float32"});
    std::map<std::string, std::vector<File>> files;
    for (auto const& [stage, parts] : said.at("files").items()) {
      for (auto const& part : parts) files[stage].push_back(checked(directory, part));
    }
    for (char const* stage : {"encoder", "decoder"}) {
      if (files[stage].empty()) throw std::runtime_error(path.string() + " names no " + stage);
    }
    return Model{directory,
                 said.at("image_size"),
                 said.at("input_size"),
                 4 * said.at("maps").at(0).at("shape").at(1).get<int>(),
                 said.at("mask_threshold"),
                 prepared.at("mean"),
                 prepared.at("std"),
                 prepared.at("scale"),
                 prepared.at("resize") == "stretch",
                 std::move(files)};
  } catch (nlohmann::json::exception const& error) {
    throw std::runtime_error(path.string() + " is no manifest (" + error.what() +
                             "); export the model again");
  }
}

std::filesystem::path Model::graph(std::string const& stage) const {
  return directory / files.at(stage).at(0).name;
}

}  // namespace samtrt
