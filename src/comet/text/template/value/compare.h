// Equality and order of values, as Python's == and < have them. Callers: operators, filters, dicts.
#pragma once

#include <optional>

#include "comet/text/template/value/budget.h"
#include "comet/text/template/value/value.h"

namespace comet::text::jinja {

[[nodiscard]] bool equal(Budget& budget, const Value& a, const Value& b);
/// The same for values without items; others are equal only when they are the same object.
[[nodiscard]] bool equal_scalars(const Value& a, const Value& b);

/// −1, 0 or 1; 2 when unordered (a NaN). Nothing where Python raises a TypeError.
[[nodiscard]] std::optional<int> order(Budget& budget, const Value& a, const Value& b);

}  // namespace comet::text::jinja
