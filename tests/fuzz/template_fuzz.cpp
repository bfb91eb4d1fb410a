// Templates and the messages they get. The input is a template, or a template and the variables as
// JSON behind a line "---". Whatever it is, it ends within small limits.
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string_view>

#include "comet/base/check.h"
#include "comet/text/chat_template.h"
#include "comet/text/template/json_value.h"
#include "comet/text/unicode/utf8.h"

namespace {

namespace text = comet::text;

constexpr std::string_view kSeparator = "\n---\n";
constexpr std::string_view kVariables = R"({
  "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Häi \"<x>\""},
               {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]}],
  "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}}],
  "bos_token": "<s>", "n": 7, "f": -2.5, "d": {"b": 1, "a": "x"}, "l": [3, 1, 2], "s": "Hello, wörld"})";

text::TemplateLimits small_limits() {
  text::TemplateLimits limits;
  limits.max_steps = 20'000;
  limits.max_memory_bytes = size_t{8} << 20;
  limits.max_output_bytes = size_t{1} << 20;
  return limits;
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view source(reinterpret_cast<const char*>(data), size);
  std::string_view json = kVariables;
  const size_t at = source.find(kSeparator);
  if (at != std::string_view::npos) {
    json = source.substr(at + kSeparator.size());
    source = source.substr(0, at);
  }
  const text::TemplateLimits limits = small_limits();
  auto chat = text::ChatTemplate::from_text(source, "fuzz", limits);
  const auto variables = text::parse_json_value(json, "variables");
  if (!chat || !variables || !variables->is_dict()) return 0;
  chat->set_local_time([] { return std::tm{}; });
  text::ChatInput input;
  input.limits = limits;
  for (const auto& [name, value] : variables->as_dict().entries) {
    if (name.as_text() == "messages") {
      input.messages = value;
    } else if (name.as_text() == "tools") {
      input.tools = value;
    } else {
      input.variables.emplace_back(name.as_text(), value);
    }
  }
  const auto rendered = chat->render(input);
  if (rendered) {
    COMET_CHECK(text::is_valid_utf8(*rendered));
    COMET_CHECK(rendered->size() <= limits.max_output_bytes);
  }
  return 0;
}
