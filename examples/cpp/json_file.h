// JSON files.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace samtrt {

// Reads an object. Throws where the file is missing or holds none.
nlohmann::json read_json(std::filesystem::path const& path);

}  // namespace samtrt
