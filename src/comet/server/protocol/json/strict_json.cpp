#include "comet/server/protocol/json/strict_json.h"

#include <vector>

namespace comet::server {
namespace {

/// Receives nlohmann's parse events and builds the value; false from an event ends the parse.
class BoundedBuilder : public nlohmann::json_sax<Json> {
 public:
  BoundedBuilder(const JsonBodyLimits& limits, Json& root) : limits_(limits), root_(root) {}

  bool null() override { return add(Json()) != nullptr; }
  bool boolean(bool value) override { return add(Json(value)) != nullptr; }
  bool number_integer(int64_t value) override { return add(Json(value)) != nullptr; }
  bool number_unsigned(uint64_t value) override { return add(Json(value)) != nullptr; }
  bool number_float(double value, const std::string& /*text*/) override {
    return add(Json(value)) != nullptr;
  }
  bool string(std::string& value) override { return add(Json(std::move(value))) != nullptr; }
  bool binary(binary_t& /*value*/) override { return false; }  // JSON text has none
  bool start_object(size_t /*size*/) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t /*size*/) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    if (open_.back()->contains(name)) {
      return fail(fmt::format("the body has the name '{}' twice in one object",
                              name.substr(0, kMaxEchoedBytes)));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(size_t position, const std::string& /*token*/,
                   const Json::exception& error) override {
    // 406: a number that a double cannot hold.
    constexpr int kNumberOverflow = 406;
    if (error.id == kNumberOverflow) {
      return fail(fmt::format("the body holds a number out of range before byte {}", position));
    }
    return fail(fmt::format("the body is not valid JSON: error near byte {}", position));
  }

  [[nodiscard]] const std::string& message() const { return message_; }

 private:
  static constexpr size_t kMaxEchoedBytes = 64;

  Json* add(Json value) {
    if (++num_values_ > limits_.max_values) {
      fail(fmt::format("the body holds more than {} JSON values", limits_.max_values));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool open(Json container) {
    if (static_cast<int>(open_.size()) >= limits_.max_depth) {
      return fail(fmt::format("the body is nested deeper than {} levels", limits_.max_depth));
    }
    Json* added = add(std::move(container));
    if (added == nullptr) return false;
    open_.push_back(added);  // stays valid: only the innermost container grows
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  bool fail(std::string message) {
    if (message_.empty()) message_ = std::move(message);
    return false;
  }

  const JsonBodyLimits& limits_;
  Json& root_;
  std::vector<Json*> open_;
  std::string key_;
  std::string message_;
  int64_t num_values_ = 0;
};

}  // namespace

std::optional<ApiError> parse_json_body(std::string_view body, const JsonBodyLimits& limits,
                                        Json& object) {
  if (body.empty()) return bad_field("", "the body is empty; expected a JSON object");
  BoundedBuilder builder(limits, object);
  if (!Json::sax_parse(body.begin(), body.end(), &builder)) {
    return bad_field("",
                     builder.message().empty() ? "the body is not valid JSON" : builder.message());
  }
  if (!object.is_object()) {
    return bad_field("",
                     fmt::format("the body is a JSON {}; expected an object", object.type_name()));
  }
  return std::nullopt;
}

}  // namespace comet::server
