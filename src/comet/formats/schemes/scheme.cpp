#include "comet/formats/schemes/scheme.h"

#include <algorithm>

namespace comet::formats {

Scheme SchemeTable::find(std::string_view module_name) const {
  const auto matches = [&](const NamePattern& pattern) { return pattern.matches(module_name); };
  if (std::any_of(ignore_.begin(), ignore_.end(), matches)) return {};
  for (const auto kind :
       {NamePattern::Kind::kName, NamePattern::Kind::kExpression, NamePattern::Kind::kClass}) {
    for (const Row& row : rows_) {
      for (const NamePattern& target : row.targets) {
        if (target.kind() == kind && matches(target)) return row.scheme;
      }
    }
  }
  return {};
}

Result<Scheme> SchemeTable::find(const LinearSpec& spec) const {
  const std::string first = spec.prefix + spec.parts[0];
  const Scheme scheme = find(first);
  for (const std::string& part : spec.parts) {
    if (find(spec.prefix + part) == scheme) continue;
    return make_error(ErrorCode::kUnsupported,
                      "{}: quantization_config gives '{}' and '{}{}' different schemes, but Comet "
                      "runs them as one linear; expected one scheme for both",
                      source_, first, spec.prefix, part);
  }
  return scheme;
}

}  // namespace comet::formats
