// quantization_config of a w4ax checkpoint: every field is checked before anything uses it.
#include <algorithm>

#include "comet/formats/w4ax/layout.h"
#include "comet/formats/w4ax/w4ax.h"

namespace comet::formats::w4ax {
namespace {

constexpr size_t kMaxEntries = 65536;
constexpr size_t kMaxParts = 16;
constexpr int64_t kMaxWindowTokens = int64_t{1} << 20;

Error bad_field(const std::string& source, std::string_view field, const Json* value,
                std::string_view expected) {
  return make_error(ErrorCode::kCorrupt, "{}: quantization_config.{} is {}; expected {}", source,
                    field, value == nullptr ? "missing" : value->dump().substr(0, 80), expected);
}

/// A version or layout that this program does not read.
Error other_version(const std::string& source, std::string_view field, const Json* value,
                    std::string_view expected) {
  return make_error(ErrorCode::kUnsupported,
                    "{}: quantization_config.{} is {}; this Comet reads {}: rewrite the checkpoint "
                    "from its original with `comet quantize MODEL -o OUT --format w4ax --force`",
                    source, field, value == nullptr ? "missing" : value->dump().substr(0, 80),
                    expected);
}

const Json* member(const Json* object, std::string_view name) {
  if (object == nullptr || !object->is_object()) return nullptr;
  const auto it = object->find(name);
  return it == object->end() ? nullptr : &*it;
}

bool is_string(const Json* value, std::string_view text) {
  return value != nullptr && value->is_string() && value->get_ref<const std::string&>() == text;
}

bool is_integer(const Json* value, int64_t low, int64_t high) {
  if (value == nullptr || !value->is_number_integer()) return false;
  if (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return false;
  }
  return value->get<int64_t>() >= low && value->get<int64_t>() <= high;
}

/// Index of the choice that `value` names, or −1.
int choice(const Json* value, std::initializer_list<std::string_view> choices) {
  int idx = 0;
  for (const std::string_view text : choices) {
    if (is_string(value, text)) return idx;
    ++idx;
  }
  return -1;
}

Status parse_header(const Json& root, Config& config) {
  const std::string& source = config.source;
  if (!root.is_object()) return bad_field(source, "", &root, "an object");
  if (!is_string(member(&root, "quant_method"), "comet")) {
    return bad_field(source, "quant_method", member(&root, "quant_method"), "\"comet\"");
  }
  if (!is_string(member(&root, "format"), "w4ax")) {
    return bad_field(source, "format", member(&root, "format"), "\"w4ax\"");
  }
  if (!is_integer(member(&root, "version"), kVersion, kVersion)) {
    return other_version(source, "version", member(&root, "version"), "version 1");
  }
  if (!is_string(member(&root, "layout"), "tile128")) {
    return other_version(source, "layout", member(&root, "layout"), "layout \"tile128\"");
  }
  const int lm_head = choice(member(&root, "lm_head"), {"bf16", "int8"});
  if (lm_head < 0) {
    return bad_field(source, "lm_head", member(&root, "lm_head"), "\"bf16\" or \"int8\"");
  }
  config.lm_head_int8 = lm_head == 1;
  return {};
}

Status parse_numbers(const Json& root, Config& config) {
  const std::string& source = config.source;
  const Json* weights = member(&root, "weights");
  if (!is_integer(member(weights, "bits"), 4, 4)) {
    return bad_field(source, "weights.bits", member(weights, "bits"), "4");
  }
  const int granularity =
      choice(member(weights, "granularity"), {"channel", "group", "progressive"});
  if (granularity < 0) {
    return bad_field(source, "weights.granularity", member(weights, "granularity"),
                     "\"channel\", \"group\" or \"progressive\"");
  }
  config.granularity = static_cast<Granularity>(granularity);
  if (!is_integer(member(weights, "group_size"), kBlock, kBlock)) {
    return bad_field(source, "weights.group_size", member(weights, "group_size"), "128");
  }
  const Json* activations = member(&root, "activations");
  const int scale = choice(member(activations, "scale"), {"S1", "S2", "S2h"});
  if (scale < 0) {
    return bad_field(source, "activations.scale", member(activations, "scale"),
                     "\"S1\", \"S2\" or \"S2h\"");
  }
  config.act_scale = static_cast<ActScale>(scale);
  if (!is_integer(member(activations, "block_size"), kBlock, kBlock)) {
    return bad_field(source, "activations.block_size", member(activations, "block_size"), "128");
  }
  return {};
}

Status parse_kv(const Json& root, Config& config) {
  const std::string& source = config.source;
  const Json* kv = member(&root, "kv_cache");
  const Json* format = member(kv, "format");
  if (choice(format, {"kv16", "kv8", "kv4"}) < 0) {
    return bad_field(source, "kv_cache.format", format, "\"kv16\", \"kv8\" or \"kv4\"");
  }
  config.kv_format = format->get<std::string>();
  const Json* rotate = member(kv, "rotate");
  if (rotate == nullptr || !rotate->is_boolean()) {
    return bad_field(source, "kv_cache.rotate", rotate, "true or false");
  }
  config.kv_rotate = rotate->get<bool>();
  const Json* window = member(kv, "window");
  if (window == nullptr || !window->is_array() || window->size() != 2 ||
      !is_integer(&(*window)[0], 0, kMaxWindowTokens) ||
      !is_integer(&(*window)[1], 0, kMaxWindowTokens)) {
    return bad_field(source, "kv_cache.window", window, "two counts of tokens");
  }
  config.kv_window_first = (*window)[0].get<int64_t>();
  config.kv_window_last = (*window)[1].get<int64_t>();
  return {};
}

Status parse_site(const Json& entry, const std::string& where, Config& config) {
  SiteLayout site;
  const Json* name = member(&entry, "name");
  if (name == nullptr || !name->is_string()) {
    return bad_field(config.source, where + ".name", name, "a string");
  }
  site.name = name->get<std::string>();
  const Json* k = member(&entry, "k");
  if (!is_integer(k, 1, kMaxChannels)) {
    return bad_field(config.source, where + ".k", k, "an integer from 1 to 131072");
  }
  site.k = k->get<int64_t>();
  site.k_padded = round_up(site.k, kBlock);
  if (!is_integer(member(&entry, "k_padded"), site.k_padded, site.k_padded)) {
    return bad_field(config.source, where + ".k_padded", member(&entry, "k_padded"),
                     fmt::format("{}, the next multiple of 128 of k", site.k_padded));
  }
  const Json* blocks = member(&entry, "int8_blocks");
  if (!is_integer(blocks, 0, site.num_blocks())) {
    return bad_field(config.source, where + ".int8_blocks", blocks,
                     fmt::format("an integer from 0 to {}", site.num_blocks()));
  }
  site.int8_blocks = blocks->get<int64_t>();
  const Json* clip = member(&entry, "clip");
  if (clip == nullptr || !clip->is_number() || !(clip->get<double>() >= 0.01) ||
      !(clip->get<double>() <= 1.0)) {
    return bad_field(config.source, where + ".clip", clip, "a number from 0.01 to 1");
  }
  site.clip = static_cast<float>(clip->get<double>());
  site.scale = config.act_scale;
  config.sites.emplace_back(site.name, std::move(site));
  return {};
}

Status parse_linear(const Json& entry, const std::string& where, Config& config) {
  LinearEntry linear;
  const Json* name = member(&entry, "name");
  if (name == nullptr || !name->is_string()) {
    return bad_field(config.source, where + ".name", name, "a string");
  }
  const Json* site = member(&entry, "site");
  if (site == nullptr || !site->is_string() ||
      config.find_site(site->get<std::string>()) == nullptr) {
    return bad_field(config.source, where + ".site", site, "the name of one of `sites`");
  }
  linear.site = site->get<std::string>();
  const Json* parts = member(&entry, "parts");
  const Json* rows = member(&entry, "rows");
  if (parts == nullptr || !parts->is_array() || parts->empty() || parts->size() > kMaxParts) {
    return bad_field(config.source, where + ".parts", parts, "a list of 1 to 16 names");
  }
  if (rows == nullptr || !rows->is_array() || rows->size() != parts->size()) {
    return bad_field(config.source, where + ".rows", rows, "one integer for each of `parts`");
  }
  for (size_t i = 0; i < parts->size(); ++i) {
    if (!(*parts)[i].is_string()) {
      return bad_field(config.source, where + ".parts", &(*parts)[i], "names");
    }
    if (!is_integer(&(*rows)[i], 1, kMaxRows)) {
      return bad_field(config.source, where + ".rows", &(*rows)[i], "integers from 1 to 16777216");
    }
    linear.parts.push_back((*parts)[i].get<std::string>());
    linear.rows.push_back((*rows)[i].get<int64_t>());
  }
  config.linears.emplace_back(name->get<std::string>(), std::move(linear));
  return {};
}

/// Sorts by name; an error when a name stands twice.
template <typename T>
Status sort_unique(const std::string& source, std::string_view field,
                   std::vector<std::pair<std::string, T>>& entries) {
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].first == entries[i - 1].first) {
      return make_error(ErrorCode::kCorrupt, "{}: quantization_config.{} names '{}' twice", source,
                        field, entries[i].first);
    }
  }
  return {};
}

using ParseEntry = Status (*)(const Json& entry, const std::string& where, Config& config);

Status parse_entries(const Json& root, const std::string& field, ParseEntry parse, Config& config) {
  const Json* entries = member(&root, field);
  if (entries == nullptr || !entries->is_array() || entries->size() > kMaxEntries) {
    return bad_field(config.source, field, entries, "a list of at most 65536 objects");
  }
  for (size_t i = 0; i < entries->size(); ++i) {
    const Status parsed = parse((*entries)[i], fmt::format("{}[{}]", field, i), config);
    if (!parsed) return parsed;
  }
  return {};
}

template <typename T>
const T* find_entry(const std::vector<std::pair<std::string, T>>& entries, std::string_view name) {
  const auto it =
      std::lower_bound(entries.begin(), entries.end(), name,
                       [](const auto& entry, std::string_view key) { return entry.first < key; });
  return it == entries.end() || it->first != name ? nullptr : &it->second;
}

Status parse_all(const Json& root, Config& config) {
  if (const Status s = parse_header(root, config); !s) return s;
  if (const Status s = parse_numbers(root, config); !s) return s;
  if (const Status s = parse_kv(root, config); !s) return s;
  if (const Status s = parse_entries(root, "sites", parse_site, config); !s) return s;
  if (const Status s = sort_unique(config.source, "sites", config.sites); !s) return s;
  if (const Status s = parse_entries(root, "linears", parse_linear, config); !s) return s;
  return sort_unique(config.source, "linears", config.linears);
}

}  // namespace

const SiteLayout* Config::find_site(std::string_view name) const { return find_entry(sites, name); }

const LinearEntry* Config::find_linear(std::string_view name) const {
  return find_entry(linears, name);
}

Result<std::shared_ptr<const FormatConfig>> parse_config(const Json& quantization_config,
                                                         const std::string& source) {
  auto config = std::make_shared<Config>();
  config->source = source;
  if (const Status parsed = parse_all(quantization_config, *config); !parsed) {
    return parsed.error();
  }
  return std::shared_ptr<const FormatConfig>(std::move(config));
}

Json manifest(const ManifestParts& parts) {
  return {
      {"quant_method", "comet"},
      {"format", "w4ax"},
      {"version", kVersion},
      {"weights",
       {{"bits", 4}, {"granularity", granularity_name(parts.granularity)}, {"group_size", kBlock}}},
      {"activations", {{"scale", act_scale_name(parts.act_scale)}, {"block_size", kBlock}}},
      {"kv_cache", parts.kv_cache},
      {"layout", "tile128"},
      {"lm_head", parts.int8_lm_head ? "int8" : "bf16"},
      {"sites", parts.sites},
      {"linears", parts.linears}};
}

}  // namespace comet::formats::w4ax
