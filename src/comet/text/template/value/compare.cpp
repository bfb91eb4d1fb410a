#include "comet/text/template/value/compare.h"

#include <algorithm>

namespace comet::text::jinja {
namespace {

constexpr int kUnordered = 2;

template <typename T>
int order_of(const T& a, const T& b) {
  if (a < b) return -1;
  if (b < a) return 1;
  return a == b ? 0 : kUnordered;
}

int order_of_numbers(const Value& a, const Value& b) {
  if (a.is_integer() && b.is_integer()) return order_of(a.as_integer(), b.as_integer());
  return order_of(a.as_double(), b.as_double());
}

bool equal_dicts(Budget& budget, const DictData& a, const DictData& b) {
  if (a.entries.size() != b.entries.size()) return false;
  return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
    const Value* other = b.find(entry.first);
    return other != nullptr && equal(budget, entry.second, *other);
  });
}

bool equal_items(Budget& budget, const Value& a, const Value& b) {
  const auto same = [&](const Value& x, const Value& y) { return equal(budget, x, y); };
  return std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(), same);
}

}  // namespace

bool equal_scalars(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return order_of_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  if (a.is_undefined() || a.is(Kind::kNone)) return true;
  return a.is_string() ? a.as_text() == b.as_text() : a.same_as(b);
}

bool equal(Budget& budget, const Value& a, const Value& b) {
  budget.charge_steps(1);
  if (a.kind() == b.kind()) {
    if (a.is(Kind::kList) || a.is(Kind::kTuple) || a.is(Kind::kRange)) {
      return a.same_as(b) || equal_items(budget, a, b);
    }
    if (a.is_dict()) return a.same_as(b) || equal_dicts(budget, a.as_dict(), b.as_dict());
    if (a.is_string()) budget.charge_scan(a.as_text().size());
  }
  return equal_scalars(a, b);
}

std::optional<int> order(Budget& budget, const Value& a, const Value& b) {
  budget.charge_steps(1);
  if (a.is_number() && b.is_number()) return order_of_numbers(a, b);
  if (a.kind() != b.kind()) return std::nullopt;
  if (a.is_string()) {
    budget.charge_scan(a.as_text().size());
    return order_of(a.as_text(), b.as_text());
  }
  if (!a.is(Kind::kList) && !a.is(Kind::kTuple)) return std::nullopt;
  const size_t shared = std::min(a.items().size(), b.items().size());
  for (size_t i = 0; i < shared; ++i) {
    if (!equal(budget, a.items()[i], b.items()[i]))
      return order(budget, a.items()[i], b.items()[i]);
  }
  return order_of(a.items().size(), b.items().size());
}

}  // namespace comet::text::jinja
