// From a parsed request to what the engine takes. Caller: generation.cpp.
#pragma once

#include <optional>
#include <vector>

#include "comet/engine/request.h"
#include "comet/server/endpoints/generation.h"

namespace comet::server {

/// One request for each prompt and choice, in the order of choice indices, without on_event; or an
/// error that names the field.
std::optional<ApiError> make_engine_requests(const Service& service, const GenerationPlan& plan,
                                             std::vector<engine::Request>& requests);

}  // namespace comet::server
