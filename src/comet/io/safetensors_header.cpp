#include "comet/io/safetensors_header.h"

#include <set>
#include <utility>

#include "comet/base/json.h"
#include "comet/tensor/tensor.h"

namespace comet::io {
namespace {

constexpr std::string_view kMetadataKey = "__metadata__";

/// nlohmann's event interface; every handler returns false, with problem_ set, to stop the parser.
class HeaderReader {
 public:
  SafetensorsHeader header;
  [[nodiscard]] const std::string& problem() const { return problem_; }

  bool key(std::string& text) {
    key_ = text;
    switch (place_) {
      case Place::kRoot:
        if (names_.insert(text).second) return true;
        return stop(fmt::format("'{}' stands there twice", shown(text)));
      case Place::kMetadata:
        if (!header.metadata.contains(text)) return true;
        return stop(fmt::format("'{}' stands in __metadata__ twice", shown(text)));
      default:  // kEntry: the only other object
        if (text != "dtype" && text != "shape" && text != "data_offsets") {
          return stop(fmt::format("tensor '{}' has the unknown field '{}'", shown(entry_.name),
                                  shown(text)));
        }
        if (fields_.insert(text).second) return true;
        return stop(fmt::format("tensor '{}' has '{}' twice", shown(entry_.name), text));
    }
  }

  bool start_object(size_t) {
    if (place_ == Place::kStart) return enter(Place::kRoot);
    if (place_ != Place::kRoot) return unexpected("an object");
    if (key_ == kMetadataKey) return enter(Place::kMetadata);
    entry_ = {};
    entry_.name = key_;
    offsets_.clear();
    fields_.clear();
    return enter(Place::kEntry);
  }

  bool end_object() {
    if (place_ != Place::kEntry) return enter(Place::kRoot);  // after the root nothing can follow
    if (fields_.size() != 3 || offsets_.size() != 2) {
      return stop(
          fmt::format("tensor '{}' needs dtype, shape and two data_offsets", shown(entry_.name)));
    }
    entry_.begin = offsets_[0];
    entry_.end = offsets_[1];
    header.entries.push_back(std::move(entry_));
    return enter(Place::kRoot);
  }

  bool start_array(size_t) {
    if (place_ == Place::kEntry && key_ == "shape") return enter(Place::kShape);
    if (place_ == Place::kEntry && key_ == "data_offsets") return enter(Place::kOffsets);
    return unexpected("an array");
  }

  bool end_array() { return enter(Place::kEntry); }

  bool number_unsigned(uint64_t value) {
    if (place_ == Place::kShape) {
      if (entry_.shape.size() == Shape::kMaxRank) {
        return stop(
            fmt::format("tensor '{}' has more than {} axes", shown(entry_.name), Shape::kMaxRank));
      }
      entry_.shape.push_back(value);
      return true;
    }
    if (place_ != Place::kOffsets) return unexpected("a number");
    if (offsets_.size() == 2) {
      return stop(fmt::format("tensor '{}' has more than two data_offsets", shown(entry_.name)));
    }
    offsets_.push_back(value);
    return true;
  }

  bool string(std::string& text) {
    if (place_ == Place::kMetadata) {
      header.metadata[key_] = text;
      return true;
    }
    if (place_ != Place::kEntry || key_ != "dtype") return unexpected("a string");
    entry_.dtype = text;
    return true;
  }

  bool null() { return unexpected("null"); }
  bool boolean(bool) { return unexpected("true or false"); }
  bool number_integer(int64_t) { return unexpected("a negative number"); }
  bool number_float(double, const std::string&) { return unexpected("a fraction or huge number"); }
  bool binary(Json::binary_t&) { return unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const Json::exception& e) {
    return stop(fmt::format("not valid JSON at byte {} ({})", position, e.what()));
  }

 private:
  enum class Place { kStart, kRoot, kMetadata, kEntry, kShape, kOffsets };

  static std::string shown(const std::string& name) { return name.substr(0, 200); }
  bool enter(Place place) {
    place_ = place;
    return true;
  }
  bool stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }
  bool unexpected(std::string_view what) {
    if (place_ == Place::kStart) return stop(fmt::format("is {}; expected an object", what));
    if (place_ == Place::kRoot || place_ == Place::kMetadata) {
      return stop(fmt::format("'{}' is {}; expected {}", shown(key_), what,
                              place_ == Place::kRoot ? "an object" : "a string"));
    }
    return stop(fmt::format("field '{}' of tensor '{}' holds {}", key_, shown(entry_.name), what));
  }

  Place place_ = Place::kStart;
  std::string key_;
  HeaderEntry entry_;
  std::vector<uint64_t> offsets_;
  std::set<std::string> fields_;  // of entry_
  std::set<std::string> names_;   // tensors, and __metadata__
  std::string problem_;
};

std::string json_quoted(const std::string& text) { return Json(text).dump(); }

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view text,
                                                   const std::string& source) {
  HeaderReader reader;
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) {
    return make_error(ErrorCode::kCorrupt, "{}: safetensors header: {}", source, reader.problem());
  }
  return std::move(reader.header);
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  std::string text = "{";
  if (!header.metadata.empty()) {
    text += fmt::format("\"{}\":{}", kMetadataKey, Json(header.metadata).dump());
  }
  for (const HeaderEntry& entry : header.entries) {
    std::string sizes;
    for (const uint64_t size : entry.shape) {
      sizes += fmt::format("{}{}", sizes.empty() ? "" : ",", size);
    }
    text += fmt::format(R"({}{}:{{"dtype":{},"shape":[{}],"data_offsets":[{},{}]}})",
                        text.size() == 1 ? "" : ",", json_quoted(entry.name),
                        json_quoted(entry.dtype), sizes, entry.begin, entry.end);
  }
  return text + "}";
}

uint64_t safetensors_dtype_bytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kSizes[] = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1},
      {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},     {"U32", 4},
      {"F32", 4},  {"F64", 8}, {"I64", 8}, {"U64", 8},     {"C64", 8}};
  for (const auto& [name, bytes] : kSizes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

}  // namespace comet::io
