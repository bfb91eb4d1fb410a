// Lists and paths of a study's spec. Caller: study_spec.
#pragma once

#include "comet/study/spec/study_spec.h"

namespace comet::study {

/// A field that must be a list of texts, one at least.
Result<std::vector<std::string>> string_list(const Json& object, const std::string& field,
                                             const SpecContext& context);

/// "${NAME}" replaced, and made relative to the spec's folder unless it is absolute.
Result<std::string> resolve_path(const std::string& path, const std::string& field,
                                 const SpecContext& context);

}  // namespace comet::study
