#include "comet/train/augment/rand_augment.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "comet/train/augment/affine.h"
#include "comet/train/augment/colour.h"

namespace comet::train {
namespace {

constexpr double kMaxMagnitude = 10;
constexpr double kMaxDegrees = 30;
constexpr double kMaxShear = 0.3;
constexpr double kMaxTranslation = 0.45;  // of the image's side

struct OpCall {
  double share;  // of the largest magnitude, 0 to 1
  bool negative;
  io::Filter filter;
  const RandAugment& settings;

  [[nodiscard]] double signed_share() const { return negative ? -share : share; }
  /// A blend's factor.
  [[nodiscard]] float factor() const {
    if (!settings.increasing) return static_cast<float>(share * 1.8 + 0.1);
    return static_cast<float>(std::max(0.1, 1.0 + 0.9 * signed_share()));
  }
};

void move(io::Image& image, const AffineMatrix& matrix, const OpCall& call) {
  image = transformed(image, matrix, call.filter, call.settings.fill);
}

struct Op {
  std::string_view name;
  void (*apply)(io::Image& image, const OpCall& call);
};

constexpr std::array<Op, kNumRandAugmentOps> kOps = {{
    {"AutoContrast", [](io::Image& image, const OpCall&) { auto_contrast(image); }},
    {"Equalize", [](io::Image& image, const OpCall&) { equalize(image); }},
    {"Invert", [](io::Image& image, const OpCall&) { invert(image); }},
    {"Rotate",
     [](io::Image& image, const OpCall& call) {
       move(image, rotation(kMaxDegrees * call.signed_share(), image.width, image.height), call);
     }},
    {"Posterize",
     [](io::Image& image, const OpCall& call) {
       const int removed = static_cast<int>(call.share * 4);
       posterize(image, call.settings.increasing ? 4 - removed : removed);
     }},
    {"Solarize",
     [](io::Image& image, const OpCall& call) {
       const int level = std::min(256, static_cast<int>(call.share * 256));
       solarize(image, call.settings.increasing ? 256 - level : level);
     }},
    {"SolarizeAdd",
     [](io::Image& image, const OpCall& call) {
       solarize_add(image, std::min(128, static_cast<int>(call.share * 110)));
     }},
    {"Color", [](io::Image& image, const OpCall& call) { enhance_colour(image, call.factor()); }},
    {"Contrast",
     [](io::Image& image, const OpCall& call) { enhance_contrast(image, call.factor()); }},
    {"Brightness",
     [](io::Image& image, const OpCall& call) { enhance_brightness(image, call.factor()); }},
    {"Sharpness",
     [](io::Image& image, const OpCall& call) { enhance_sharpness(image, call.factor()); }},
    {"ShearX",
     [](io::Image& image, const OpCall& call) {
       move(image, {1, kMaxShear * call.signed_share(), 0, 0, 1, 0}, call);
     }},
    {"ShearY",
     [](io::Image& image, const OpCall& call) {
       move(image, {1, 0, 0, kMaxShear * call.signed_share(), 1, 0}, call);
     }},
    {"TranslateXRel",
     [](io::Image& image, const OpCall& call) {
       const double pixels =
           kMaxTranslation * call.signed_share() * static_cast<double>(image.width);
       move(image, {1, 0, pixels, 0, 1, 0}, call);
     }},
    {"TranslateYRel",
     [](io::Image& image, const OpCall& call) {
       const double pixels =
           kMaxTranslation * call.signed_share() * static_cast<double>(image.height);
       move(image, {1, 0, 0, 0, 1, pixels}, call);
     }},
}};

double drawn_magnitude(const RandAugment& settings, Rng& rng) {
  double magnitude = settings.magnitude;
  if (settings.magnitude_std > 100) {
    magnitude *= rng.next_uniform();
  } else if (settings.magnitude_std > 0) {
    magnitude += settings.magnitude_std * rng.next_normal();
  }
  return std::clamp(magnitude, 0.0, kMaxMagnitude);
}

/// One part of the text, such as "m9"; false when it says nothing known.
bool parse_part(std::string_view part, RandAugment& settings) {
  const size_t digits = part.find_first_of("0123456789");
  if (digits == std::string_view::npos) return false;
  const std::string_view key = part.substr(0, digits);
  double value = 0;
  const auto [end, failure] =
      std::from_chars(part.data() + digits, part.data() + part.size(), value);
  if (failure != std::errc() || end != part.data() + part.size()) return false;
  if (key == "m" && value <= kMaxMagnitude) {
    settings.magnitude = value;
  } else if (key == "mstd") {
    settings.magnitude_std = value;
  } else if (key == "n" && value <= 16 && value == std::floor(value)) {
    settings.num_layers = static_cast<int>(value);
  } else if (key == "inc") {
    settings.increasing = value != 0;
  } else if (key == "p" && value <= 1) {
    settings.probability = value;
  } else {
    return false;
  }
  return true;
}

}  // namespace

Result<RandAugment> parse_rand_augment(std::string_view text) {
  RandAugment settings;
  std::string_view rest = text;
  bool valid = rest.substr(0, rest.find('-')) == "rand";
  while (valid && rest.find('-') != std::string_view::npos) {
    rest.remove_prefix(rest.find('-') + 1);
    valid = parse_part(rest.substr(0, rest.find('-')), settings);
  }
  if (valid) return settings;
  return make_error(ErrorCode::kInvalidArgument,
                    "RandAugment '{}': expected rand-m9-mstd0.5-inc1 or the like: after 'rand', m "
                    "(magnitude, at most 10), mstd, n (operations, at most 16), inc, p (at most 1)",
                    text);
}

std::string_view rand_augment_op_name(int op_idx) { return kOps[op_idx].name; }

void apply_rand_augment_op(io::Image& image, int op_idx, double magnitude, bool negative,
                           bool bicubic, const RandAugment& settings) {
  const auto filter = bicubic ? io::Filter::kBicubic : io::Filter::kBilinear;
  kOps[op_idx].apply(image, {magnitude / kMaxMagnitude, negative, filter, settings});
}

void rand_augment(io::Image& image, const RandAugment& settings, Rng& rng) {
  for (int layer = 0; layer < settings.num_layers; ++layer) {
    // All draws are made whether used or not: an operation's do not depend on the one before.
    const auto op_idx = static_cast<int>(rng.next_below(kNumRandAugmentOps));
    const bool skipped = rng.next_uniform() >= settings.probability;
    const bool negative = rng.next_uniform() > 0.5F;
    const bool bicubic = rng.next_uniform() < 0.5F;
    const double magnitude = drawn_magnitude(settings, rng);
    if (!skipped) apply_rand_augment_op(image, op_idx, magnitude, negative, bicubic, settings);
  }
}

}  // namespace comet::train
