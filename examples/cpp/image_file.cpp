#include "image_file.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>

#define STB_IMAGE_IMPLEMENTATION
#define STBI_MAX_DIMENSIONS 65535
#include <stb/stb_image.h>
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>

namespace samtrt {
namespace {

using Bytes = std::vector<uint8_t>;

// Returns the EXIF orientation of a JPEG, 1 to 8; 1 (upright) where it says none.
int orientation_of(Bytes const& file) {
  static constexpr uint8_t kExif[] = {'E', 'x', 'i', 'f', 0, 0};
  if (file.size() < 4 || file[0] != 0xff || file[1] != 0xd8) return 1;
  size_t at = 2;
  // Segments: a marker, their length in two bytes, and from the first scan on no more of them.
  while (at + 10 < file.size() && file[at] == 0xff && file[at + 1] != 0xda) {
    size_t const size = file[at + 2] << 8 | file[at + 3],
                 end = std::min(at + 2 + size, file.size());
    if (file[at + 1] == 0xe1 && !std::memcmp(&file[at + 4], kExif, sizeof kExif)) {
      size_t const tiff = at + 10;
      bool const little = tiff < end && file[tiff] == 'I';
      auto number = [&](size_t place, int bytes) {
        size_t value = 0;
        for (int i = 0; i < bytes && place + bytes <= end; ++i) {
          value = value << 8 | file[place + (little ? bytes - 1 - i : i)];
        }
        return value;
      };
      size_t const table = tiff + number(tiff + 4, 4), entries = number(table, 2);
      for (size_t i = 0; i < entries && table + 14 + 12 * i <= end; ++i) {
        size_t const entry = table + 2 + 12 * i;
        if (number(entry, 2) == 0x0112) return int(number(entry + 8, 2));
      }
    }
    at += 2 + size;
  }
  return 1;
}

}  // namespace

Image read_image(std::filesystem::path const& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream || std::filesystem::is_directory(path)) {
    throw std::runtime_error("cannot read " + path.string());
  }
  Bytes const file{std::istreambuf_iterator<char>(stream), {}};
  int const size = int(file.size());
  int width, height, channels;
  if (!stbi_info_from_memory(file.data(), size, &width, &height, &channels)) {
    throw std::runtime_error(path.string() + " is no image that can be read here (" +
                             stbi_failure_reason() + "); convert it to PNG");
  }
  if (channels == 2 || channels == 4 || stbi_is_16_bit_from_memory(file.data(), size)) {
    throw std::runtime_error(path.string() + " is transparent or has 16 bits; convert it to RGB");
  }
  int const orientation = orientation_of(file);
  if (orientation > 1 && orientation <= 8) {
    throw std::runtime_error(path.string() + " is stored turned (EXIF orientation " +
                             std::to_string(orientation) + "); turn it, and save it upright");
  }
  std::unique_ptr<uint8_t, void (*)(void*)> const pixels(
      stbi_load_from_memory(file.data(), size, &width, &height, &channels, 3), stbi_image_free);
  if (!pixels) {
    throw std::runtime_error(path.string() + " is damaged (" + stbi_failure_reason() + ")");
  }
  return {height, width, {pixels.get(), pixels.get() + size_t(height) * width * 3}};
}

void write_mask(std::filesystem::path const& path, Image const& of,
                std::vector<uint8_t> const& mask) {
  auto temporary = path;
  temporary += ".part";
  if (!stbi_write_png(temporary.string().c_str(), of.width, of.height, 1, mask.data(), of.width)) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw std::runtime_error("cannot write " + path.string());
  }
  std::filesystem::rename(temporary, path);
}

}  // namespace samtrt
