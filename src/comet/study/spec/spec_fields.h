// Parts of a study's spec: lists, paths, flags of commands, what a load run sends. Caller:
// study_spec.
#pragma once

#include <initializer_list>
#include <string_view>

#include "comet/study/spec/study_spec.h"

namespace comet::study {

/// A field that must be a list of texts, one at least.
Result<std::vector<std::string>> string_list(const Json& object, const std::string& field,
                                             const SpecContext& context);

/// "${NAME}" replaced, and made relative to the spec's folder unless it is absolute.
Result<std::string> resolve_path(const std::string& path, const std::string& field,
                                 const SpecContext& context);

/// Flags of a command, spelt with '_' or '-', but for the names in `own`; a calibration text's path
/// is resolved.
Result<StudyFlags> read_flags(const Json& object, const std::string& field,
                              std::initializer_list<std::string_view> own,
                              const SpecContext& context);

/// The fields "sync" and "async".
Status read_load(const Json& object, const SpecContext& context, StudySpec& spec);

}  // namespace comet::study
