// A safetensors file → header, entries and tensors. The input is the file; it goes through a
// memory-backed file, since the reader maps what it opens. What parses must read within its bounds.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "comet/base/check.h"
#include "comet/io/safetensors.h"
#include "comet/io/safetensors_header.h"

namespace {

/// The text survives a second reading unchanged.
void check_header(const std::string& text) {
  const auto header = comet::io::parse_safetensors_header(text, "model.safetensors");
  if (!header.ok()) return;
  const std::string written = comet::io::format_safetensors_header(*header);
  const auto again = comet::io::parse_safetensors_header(written, "model.safetensors");
  COMET_CHECK(again.ok(), "{}", again.error().message);
  COMET_CHECK(comet::io::format_safetensors_header(*again) == written, "{}", written);
}

void check_file(const std::string& path) {
  const auto file = comet::io::SafetensorsFile::open(path);
  if (!file.ok()) return;
  unsigned sum = 0;
  for (const std::string& name : file->names()) {
    const auto tensor = file->tensor(name);
    if (!tensor.ok()) continue;
    const auto* bytes = reinterpret_cast<const unsigned char*>(tensor->raw());
    for (int64_t i = 0; i < tensor->num_bytes(); ++i) sum += bytes[i];
  }
  COMET_CHECK(sum != 1U << 31, "never");  // keeps the loop
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_header(std::string(data, data + size));
  const int descriptor = memfd_create("model.safetensors", 0);
  COMET_CHECK(descriptor >= 0, "memfd_create");
  COMET_CHECK(write(descriptor, data, size) == static_cast<ssize_t>(size), "write");
  check_file("/proc/self/fd/" + std::to_string(descriptor));
  close(descriptor);
  return 0;
}
