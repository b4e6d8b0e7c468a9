// Pictures as files.
#pragma once

#include <filesystem>
#include <vector>

#include "pixels.h"

namespace samtrt {

// Reads a JPEG, PNG or another file that stb_image knows. Throws where it is none, or would be
// read otherwise than the Python package reads it: turned, transparent, of 16 bits.
Image read_image(std::filesystem::path const& path);

// Writes a grey PNG, whole or not at all. Throws where it cannot be written.
void write_mask(std::filesystem::path const& path, Image const& of,
                std::vector<uint8_t> const& mask);

}  // namespace samtrt
