#include "comet/text/template/value/budget.h"

namespace comet::text::jinja {

void fail_at(int line, const std::string& message) {
  throw TemplateError(fmt::format("line {}: {}", line, message));
}

void Budget::fail_steps() const {
  fail("the template takes more than {} steps", limits_.max_steps);
}

void Budget::fail_memory() const {
  fail("the template's values take more than {} bytes", limits_.max_memory_bytes);
}

void Budget::fail_depth() {
  --depth_;  // the Level that threw will not do it
  fail("calls and expressions are nested deeper than {} levels", limits_.max_depth);
}

}  // namespace comet::text::jinja
