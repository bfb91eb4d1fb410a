// Tokens → the tree of a template, by the grammar of jinja2 3.1 with the tags that transformers
// adds (break, continue, generation). What reads files (include, import, extends) is refused.
// Errors are thrown as TemplateError. Caller: ChatTemplate.
#pragma once

#include <memory>
#include <string_view>

#include "comet/text/template/syntax/ast.h"
#include "comet/text/template_limits.h"

namespace comet::text::jinja {

/// `source` is valid UTF-8.
std::unique_ptr<Program> parse_template(std::string_view source, const TemplateLimits& limits);

}  // namespace comet::text::jinja
