// The part of a request that both generation routes share, read from JSON. Callers:
// completion_request.cpp, chat_request.cpp.
#pragma once

#include <span>

#include "comet/server/protocol/json/fields.h"
#include "comet/server/protocol/request/requests.h"

namespace comet::server {

/// Reads what generation_fields() lists, stop, stop_token_ids, logit_bias and stream_options;
/// errors end up in `fields`.
void read_generation_params(Fields& fields, const RequestLimits& limits, GenerationParams& params);

/// Fails on a field of `refused` with anything but null or its harmless value.
void refuse_fields(Fields& fields, std::span<const RefusedField> refused);

/// Ids of the vocabulary; an error names the entry. `what` is the path of the list.
std::optional<ApiError> read_token_ids(const Json& list, const RequestLimits& limits,
                                       const std::string& what, std::vector<int32_t>& ids);

}  // namespace comet::server
