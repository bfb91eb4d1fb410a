#include "comet/server/protocol/api_error.h"

#include "comet/base/json.h"

namespace comet::server {

ApiError bad_field(std::string param, std::string message) {
  ApiError error;
  error.param = std::move(param);
  error.message = std::move(message);
  return error;
}

ApiError unavailable(std::string message) {
  return {503, std::move(message), "service_unavailable_error", "", "unavailable"};
}

ApiError api_error_of(const Error& error, std::string param) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUnsupported:
      return bad_field(std::move(param), error.message);
    case ErrorCode::kNotFound:
      return {404, error.message, "invalid_request_error", std::move(param), "not_found"};
    case ErrorCode::kResourceExhausted:
      return {429, error.message, "rate_limit_error", "", "overloaded"};
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
      break;
  }
  return {500, error.message, "server_error", "", "internal_error"};
}

std::string error_json(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? OrderedJson() : OrderedJson(text);
  };
  const OrderedJson body = {{"error",
                             {{"message", error.message},
                              {"type", error.type},
                              {"param", text_or_null(error.param)},
                              {"code", text_or_null(error.code)}}}};
  return body.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace comet::server
