// ApiError: what a client is told when its request cannot be answered, in the shape of the OpenAI
// API. Made by the parsers of this folder and by endpoints; HTTP statuses of engine errors are
// mapped here and nowhere else.
#pragma once

#include <string>

#include "comet/base/result.h"

namespace comet::server {

struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;      // the field at fault, "messages[2].content"; empty: null
  std::string code = "";  // empty: null
};

/// 400: the field `param` is at fault.
ApiError bad_field(std::string param, std::string message);
/// 503: come again later.
ApiError unavailable(std::string message);
/// The status of an error that the engine or the model's text room returned.
ApiError api_error_of(const Error& error, std::string param = "");

/// {"error": {"message", "type", "param", "code"}}
std::string error_json(const ApiError& error);

}  // namespace comet::server
