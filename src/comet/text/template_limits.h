// What rendering one chat template may use. The defaults suit any published template on the longest
// chats and end a hostile one within about a second. Callers: chat_template.h and its callers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace comet::text {

struct TemplateLimits {
  size_t max_template_bytes = size_t{1} << 20;
  int max_nesting = 200;                        // of the template's text
  int max_depth = 500;                          // of calls and expressions while it runs
  int64_t max_steps = 4'000'000;                // well below a second
  size_t max_memory_bytes = size_t{256} << 20;  // of all values made, freed ones too
  size_t max_output_bytes = size_t{64} << 20;
};

}  // namespace comet::text
