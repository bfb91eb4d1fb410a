#include "comet/train/recipe/recipe.h"

#include <array>
#include <charconv>
#include <vector>

namespace comet::train {
namespace {

constexpr double kLarge = 1e9;

struct NumberField {
  const char* name;
  double Recipe::* value;
  double low, high;
};
struct CountField {
  const char* name;
  int64_t Recipe::* value;
  int64_t low, high;
};
struct TextField {
  const char* name;
  std::string Recipe::* value;
};

constexpr std::array kNumbers{
    NumberField{"lr", &Recipe::lr, 0, 1e3},
    NumberField{"min_lr", &Recipe::min_lr, 0, 1e3},
    NumberField{"warmup_lr", &Recipe::warmup_lr, 0, 1e3},
    NumberField{"warmup_epochs", &Recipe::warmup_epochs, 0, kLarge},
    NumberField{"weight_decay", &Recipe::weight_decay, 0, 1e3},
    NumberField{"beta1", &Recipe::beta1, 0, 0.999999},
    NumberField{"beta2", &Recipe::beta2, 0, 0.999999999},
    NumberField{"eps", &Recipe::eps, 0, 1},
    NumberField{"clip_grad", &Recipe::clip_grad, 0, kLarge},
    NumberField{"label_smoothing", &Recipe::label_smoothing, 0, 0.999},
    NumberField{"mixup", &Recipe::mixup, 0, 1e3},
    NumberField{"cutmix", &Recipe::cutmix, 0, 1e3},
    NumberField{"mixup_prob", &Recipe::mixup_prob, 0, 1},
    NumberField{"mixup_switch_prob", &Recipe::mixup_switch_prob, 0, 1},
    NumberField{"drop_path", &Recipe::drop_path, 0, 0.95},
    NumberField{"ema_decay", &Recipe::ema_decay, 0, 0.9999999},
    NumberField{"scale_low", &Recipe::scale_low, 0.001, 1},
    NumberField{"scale_high", &Recipe::scale_high, 0.001, 1},
    NumberField{"ratio_low", &Recipe::ratio_low, 0.01, 100},
    NumberField{"ratio_high", &Recipe::ratio_high, 0.01, 100},
    NumberField{"flip", &Recipe::flip, 0, 1},
    NumberField{"random_erasing", &Recipe::random_erasing, 0, 1},
    NumberField{"crop_pct", &Recipe::crop_pct, 0.05, 1},
};
constexpr std::array kCounts{
    CountField{"image_size", &Recipe::image_size, 32, 4096},
    CountField{"epochs", &Recipe::epochs, 1, 1'000'000},
    CountField{"batch_size", &Recipe::batch_size, 2, 1 << 20},
    CountField{"grad_accum_steps", &Recipe::grad_accum_steps, 1, 1 << 20},
};
constexpr std::array kTexts{
    TextField{"architecture", &Recipe::architecture},
    TextField{"mixer", &Recipe::mixer},
    TextField{"rand_augment", &Recipe::rand_augment},
};
constexpr const char* kSeed = "seed";

bool is_known(const std::string& name) {
  const auto has = [&](const auto& fields) {
    for (const auto& field : fields) {
      if (name == field.name) return true;
    }
    return false;
  };
  return has(kNumbers) || has(kCounts) || has(kTexts) || name == kSeed;
}

Status check_known(const Json& json, const std::string& source) {
  if (!json.is_object()) {
    return make_error(ErrorCode::kInvalidArgument, "{}: a recipe is a JSON object", source);
  }
  for (const auto& [name, value] : json.items()) {
    if (is_known(name)) continue;
    std::string known;
    const OrderedJson all = to_json(Recipe());
    for (const auto& [field, unused] : all.items()) {
      known += (known.empty() ? "" : ", ") + field;
    }
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}' is unknown; a recipe may have {}", source, name, known);
  }
  return {};
}

/// The sides of a mixer "7x7"; 0: not such a text.
int64_t kernel_of(const std::string& mixer) {
  int64_t size = 0;
  const char* end = mixer.data() + mixer.size();
  const auto parsed = std::from_chars(mixer.data(), end, size);
  const bool good = parsed.ec == std::errc() && size >= 1 && size <= 31 && size % 2 == 1 &&
                    mixer == fmt::format("{}x{}", size, size);
  return good ? size : 0;
}

Status check_values(const Recipe& recipe, const std::string& source) {
  if (recipe.scale_low > recipe.scale_high || recipe.ratio_low > recipe.ratio_high) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: scale {} to {} and ratio {} to {}; the first of each must not be larger",
                      source, recipe.scale_low, recipe.scale_high, recipe.ratio_low,
                      recipe.ratio_high);
  }
  if (!recipe.mixer.empty() && kernel_of(recipe.mixer) == 0) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: mixer is '{}'; expected \"\" or an odd size such as \"7x7\"", source,
                      recipe.mixer);
  }
  if (!recipe.rand_augment.empty()) {
    const auto parsed = parse_rand_augment(recipe.rand_augment);
    if (!parsed) {
      return make_error(ErrorCode::kInvalidArgument, "{}: rand_augment: {}", source,
                        parsed.error().message);
    }
  }
  return {};
}

}  // namespace

Result<Recipe> parse_recipe(const Json& json, const std::string& source) {
  if (const Status known = check_known(json, source); !known) return known.error();
  const JsonObject fields(json, source);
  Recipe recipe;
  for (const NumberField& field : kNumbers) {
    const auto value = fields.number(field.name, field.low, field.high);
    if (!value) return value.error();
    if (*value) recipe.*field.value = **value;
  }
  for (const CountField& field : kCounts) {
    const auto value = fields.integer(field.name, field.low, field.high);
    if (!value) return value.error();
    if (*value) recipe.*field.value = **value;
  }
  for (const TextField& field : kTexts) {
    const auto value = fields.string(field.name);
    if (!value) return value.error();
    if (*value) recipe.*field.value = **value;
  }
  const auto seed = fields.integer(kSeed, 0, INT64_MAX);
  if (!seed) return seed.error();
  if (*seed) recipe.seed = static_cast<uint64_t>(**seed);
  if (const Status valid = check_values(recipe, source); !valid) return valid.error();
  return recipe;
}

OrderedJson to_json(const Recipe& recipe) {
  OrderedJson json;
  for (const TextField& field : kTexts) json[field.name] = recipe.*field.value;
  for (const CountField& field : kCounts) json[field.name] = recipe.*field.value;
  json[kSeed] = recipe.seed;
  for (const NumberField& field : kNumbers) json[field.name] = recipe.*field.value;
  return json;
}

std::string recipe_difference(const Recipe& now, const Recipe& before) {
  const OrderedJson a = to_json(now);
  const OrderedJson b = to_json(before);
  std::string text;
  for (const auto& [name, value] : a.items()) {
    if (value == b[name]) continue;
    text += fmt::format("{}{} is {}, was {}", text.empty() ? "" : "; ", name, value.dump(),
                        b[name].dump());
  }
  return text;
}

Result<models::TrainableVisionConfig> network_of(const Recipe& recipe, int64_t num_classes) {
  auto config = models::trainable_config(recipe.architecture, num_classes);
  if (!config) return config.error();
  config->depthwise_kernel = recipe.mixer.empty() ? 0 : kernel_of(recipe.mixer);
  if (config->depthwise_kernel > 0 &&
      config->network.family != models::VisionFamily::kInceptionNext) {
    return make_error(ErrorCode::kInvalidArgument,
                      "mixer '{}' with {}; only an InceptionNeXt can have another mixer",
                      recipe.mixer, recipe.architecture);
  }
  return config;
}

Result<AugmentSettings> augment_settings_of(const Recipe& recipe) {
  AugmentSettings settings;
  settings.image_size = recipe.image_size;
  settings.scale_low = recipe.scale_low;
  settings.scale_high = recipe.scale_high;
  settings.ratio_low = recipe.ratio_low;
  settings.ratio_high = recipe.ratio_high;
  settings.flip_probability = recipe.flip;
  settings.erase_probability = recipe.random_erasing;
  if (!recipe.rand_augment.empty()) {
    const auto parsed = parse_rand_augment(recipe.rand_augment);
    if (!parsed) return parsed.error();
    settings.rand_augment = *parsed;
  }
  return settings;
}

}  // namespace comet::train
