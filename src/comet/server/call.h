// Call: one request on its way through an endpoint: what was asked, by which route, under which id,
// and the one answer, which is logged and counted. Endpoints hold it by shared_ptr.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "comet/base/clock.h"
#include "comet/server/http/exchange.h"
#include "comet/server/protocol/answer/answer.h"
#include "comet/server/protocol/api_error.h"
#include "comet/server/service.h"

namespace comet::server {

struct Route;

class Call {
 public:
  Call(Service& service, std::shared_ptr<http::Exchange> exchange, std::string request_id)
      : service_(service), exchange_(std::move(exchange)), request_id_(std::move(request_id)) {}

  [[nodiscard]] Service& service() const { return service_; }
  [[nodiscard]] http::Exchange& exchange() const { return *exchange_; }
  [[nodiscard]] const http::HttpRequest& request() const { return exchange_->request(); }
  [[nodiscard]] const std::string& request_id() const { return request_id_; }

  const Route* route = nullptr;  // nullptr: unknown path
  std::string path_argument;     // what stands for the {…} of the route, decoded

  // The answer: one of these, once.
  void respond(http::HttpResponse response);
  void respond_json(std::string body);
  void respond_error(const ApiError& error);

  /// For streams: headers of the answer, and the line in the log when it is over (499: the client
  /// went away).
  [[nodiscard]] std::vector<http::Header> stream_headers() const;
  void finish(int status, const Usage& usage);
  Usage usage;  // for the log; set before respond()

 private:
  Service& service_;
  std::shared_ptr<http::Exchange> exchange_;
  std::string request_id_;
  Stopwatch clock_;
};

}  // namespace comet::server
