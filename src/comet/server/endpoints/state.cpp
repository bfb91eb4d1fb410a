// GET /livez, /health, /metrics, /openapi.json
#include "comet/engine/engine_loop.h"
#include "comet/server/call.h"
#include "comet/server/endpoints/endpoints.h"
#include "comet/server/protocol/answer/answer_json.h"
#include "comet/server/protocol/openapi/openapi.h"
#include "comet/server/routes.h"

namespace comet::server::endpoints {

void livez(const std::shared_ptr<Call>& call) { call->respond_json(R"({"status":"ok"})"); }

void health(const std::shared_ptr<Call>& call) {
  Service& service = call->service();
  const char* status = "ok";
  if (service.model() == nullptr) {
    status = "loading";
  } else if (service.draining()) {
    status = "draining";
  } else if (service.loop().stalled_s() > service.options().stall_s) {
    status = "stalled";
  }
  http::HttpResponse response;
  response.body = json_text({{"status", status}});
  if (std::string_view(status) != "ok") {
    response.status = 503;
    response.headers = {{"Retry-After", "1"}};
  }
  call->respond(std::move(response));
}

void metrics(const std::shared_ptr<Call>& call) {
  Service& service = call->service();
  Metrics::Gauges gauges;
  gauges.num_connections = service.num_connections();
  const ServedModel* model = service.model();
  if (model != nullptr) {
    gauges.engine = service.loop().stats();
    gauges.stalled_s = service.loop().stalled_s();
  }
  const std::string name = model == nullptr ? "" : model->name;
  http::HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = service.metrics().text("comet:", name, gauges);
  if (service.options().vllm_metrics) {
    response.body += service.metrics().text("vllm:", name, gauges);
  }
  response.body += process_metrics_text();
  call->respond(std::move(response));
}

void openapi(const std::shared_ptr<Call>& call) {
  std::vector<DocumentedRoute> list;
  for (const Route& route : routes()) {
    list.push_back({route.method, route.path, route.schema, route.summary, route.is_public});
  }
  const ServiceOptions& options = call->service().options();
  call->respond_json(
      openapi_json(list, call->service().limits(), options.version, !options.keys.empty()));
}

}  // namespace comet::server::endpoints
