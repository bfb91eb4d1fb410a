// The filters and tests of jinja2, and transformers' tojson, by name. Not there: what is for HTML
// (urlize, xmlattr, striptags), random, pprint, groupby, slice, wordwrap, filesizeformat,
// urlencode. Caller: the interpreter.
#pragma once

#include <span>
#include <string_view>

#include "comet/text/template/value/function.h"

namespace comet::text::jinja {

struct NamedFilter {
  std::string_view name;
  Callable call;
};

/// nullptr where there is none.
Callable find_filter(std::string_view name);
Callable find_test(std::string_view name);

// The parts that find_filter looks through.
std::span<const NamedFilter> text_filters();
std::span<const NamedFilter> sequence_filters();
std::span<const NamedFilter> selection_filters();

/// item.a.b for the path "a.b", whose numbers are indices. Undefined where a part is missing.
Value attribute_by_path(Interpreter& run, const Value& item, const Value& path);

}  // namespace comet::text::jinja
