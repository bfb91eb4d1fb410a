// The C++ side of tools/compare_tokenizers.py: answers requests from stdin.
//   request:  u32 kind, u32 num_bytes, bytes
//   kind 0..3 encode: bit 0 add_special_tokens, bit 1 parse_special  -> u32 count, i32 ids
//   kind 4, 5 decode i32 ids, 5 skips special tokens                 -> u32 num_bytes, text
//   kind 6    decode i32 ids with a StreamDecoder                    -> u32 num_bytes, text
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "comet/text/stream_decoder.h"
#include "comet/text/tokenizer.h"

namespace {

std::string read_file(const char* path) {
  std::string bytes;
  FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return bytes;
  char buffer[1 << 16];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, file)) bytes.append(buffer, n);
  std::fclose(file);
  return bytes;
}

void answer(const void* data, size_t count, size_t item_bytes) {
  const auto count32 = static_cast<uint32_t>(count);
  std::fwrite(&count32, sizeof count32, 1, stdout);
  std::fwrite(data, item_bytes, count, stdout);
}

std::vector<int32_t> as_ids(const std::string& bytes) {
  std::vector<int32_t> ids(bytes.size() / sizeof(int32_t));
  std::memcpy(ids.data(), bytes.data(), ids.size() * sizeof(int32_t));
  return ids;
}

std::string stream_decode(const comet::text::Tokenizer& tokenizer,
                          const std::vector<int32_t>& ids) {
  comet::text::StreamDecoder decoder(tokenizer, false);
  std::string text;
  for (const int32_t id : ids) text += decoder.push(id);
  return text + decoder.flush();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto tokenizer = comet::text::Tokenizer::from_json(read_file(argv[1]), argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.error().message.c_str());
    return 1;
  }
  uint32_t head[2];
  while (std::fread(head, sizeof head, 1, stdin) == 1) {
    std::string payload(head[1], '\0');
    if (std::fread(payload.data(), 1, payload.size(), stdin) != payload.size()) return 1;
    if (head[0] < 4) {
      const auto ids = tokenizer->encode(
          payload, {.add_special_tokens = (head[0] & 1) != 0, .parse_special = (head[0] & 2) != 0});
      answer(ids.data(), ids.size(), sizeof(int32_t));
    } else {
      const std::vector<int32_t> ids = as_ids(payload);
      const std::string text =
          head[0] == 6 ? stream_decode(*tokenizer, ids) : tokenizer->decode(ids, head[0] == 5);
      answer(text.data(), text.size(), 1);
    }
  }
  return 0;
}
