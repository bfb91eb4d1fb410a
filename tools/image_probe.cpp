// Writes what a classifier sees of images, for tools/compare_images.py. Lines of stdin are paths;
// for each, its pixels after the evaluation transform leave as bytes on stdout (zeros where it
// cannot be read, with the reason on stderr).
// usage: image_probe SIZE CROP_PCT < paths
#include <cstdio>
#include <exception>
#include <string>

#include "comet/io/image/preprocessing.h"

namespace {

int run(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: image_probe SIZE CROP_PCT < paths\n", stderr);
    return 2;
  }
  comet::io::Preprocessing preprocessing;
  preprocessing.image_size = std::stoll(argv[1]);
  preprocessing.crop_pct = std::stod(argv[2]);
  const auto num_bytes = static_cast<size_t>(preprocessing.image_size * preprocessing.image_size *
                                             comet::io::kImageColours);
  char line[4096];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    std::string path = line;
    if (path.ends_with('\n')) path.pop_back();
    const auto image = comet::io::read_image(path, comet::io::Orientation::kIgnore);
    std::string bytes(num_bytes, '\0');
    if (image) {
      const auto seen = comet::io::evaluation_crop(image.value(), preprocessing);
      bytes.assign(seen.rgb.begin(), seen.rgb.end());
    } else {
      std::fprintf(stderr, "%s\n", image.error().message.c_str());
    }
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "image_probe: %s\n", e.what());
    return 1;
  }
}
