// tokenize MODEL TEXT: opens a model folder with libcomet, says what it holds, prints the tokens of
// TEXT.
#include <cstdio>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/io/file.h"
#include "comet/io/model_config.h"
#include "comet/text/tokenizer.h"

namespace {

constexpr size_t kMaxTokenizerBytes = size_t{256} << 20;

comet::Status describe(const std::string& directory, const std::string& text) {
  auto checkpoint = comet::io::Checkpoint::open(directory);
  if (!checkpoint) return checkpoint.error();
  auto config = comet::io::parse_model_config(checkpoint->config(), checkpoint->config_path());
  if (!config) return config.error();
  std::printf("%s: %lld layers, hidden %lld, %zu bytes in %zu tensors\n",
              config->architecture.c_str(), static_cast<long long>(config->num_layers),
              static_cast<long long>(config->hidden_size), checkpoint->total_bytes(),
              checkpoint->names().size());

  const std::string path = directory + "/tokenizer.json";
  auto json = comet::io::read_file(path, kMaxTokenizerBytes);
  if (!json) return json.error();
  auto tokenizer = comet::text::Tokenizer::from_json(*json, path);
  if (!tokenizer) return tokenizer.error();
  for (const int32_t id : tokenizer->encode(text)) {
    const std::string bytes(tokenizer->token_bytes(id));
    std::printf("%6d  '%s'\n", id, bytes.c_str());
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: tokenize MODEL TEXT\n");
    return 2;
  }
  const comet::Status status = describe(argv[1], argv[2]);
  if (!status.ok()) std::fprintf(stderr, "tokenize: %s\n", status.error().message.c_str());
  return status.ok() ? 0 : 1;
}
