// The C++ side of tools/compare_templates.py, which compiles it: renders requests from stdin, one
// JSON object a line: {"template": text, "variables": {name: value}}; answers {"text": …} or
// {"error": …}, one line each.
#include <iostream>
#include <string>

#include "comet/base/json.h"
#include "comet/text/chat_template.h"
#include "comet/text/template/json_value.h"

namespace {

std::tm fixed_time() {  // as template_oracle.py: Friday, 26 July 2024, 09:05:03
  std::tm time{};
  time.tm_year = 124;
  time.tm_mon = 6;
  time.tm_mday = 26;
  time.tm_hour = 9;
  time.tm_min = 5;
  time.tm_sec = 3;
  time.tm_wday = 5;
  time.tm_yday = 207;
  return time;
}

comet::Json answer(const std::string& line) {
  const auto request = comet::OrderedJson::parse(line);
  auto made = comet::text::ChatTemplate::from_text(request["template"].get<std::string>(), "probe");
  if (!made) return {{"error", made.error().message}};
  made->set_local_time(fixed_time);
  comet::text::ChatInput input;
  for (const auto& [name, value] : request["variables"].items()) {
    if (name == "messages") {
      input.messages = comet::text::value_of(value);
    } else {
      input.variables.emplace_back(name, comet::text::value_of(value));
    }
  }
  const auto text = made->render(input);
  if (!text) return {{"error", text.error().message}};
  return {{"text", *text}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << answer(line).dump() << "\n" << std::flush;
  }
  return 0;
}
