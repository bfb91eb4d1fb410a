#include "comet/io/image/preprocessing.h"

#include <cmath>

#include "comet/io/config_fields.h"

namespace comet::io {
namespace {

constexpr int64_t kMaxImageSize = 4096;

std::array<float, 3> three_numbers(ConfigFields& fields, std::string_view field, double low,
                                   const std::array<float, 3>& otherwise) {
  const Json* value = fields.find(field);
  if (value == nullptr) return otherwise;
  std::array<float, 3> numbers{};
  bool valid = value->is_array() && value->size() == numbers.size();
  for (size_t i = 0; valid && i < numbers.size(); ++i) {
    valid = (*value)[i].is_number();
    if (!valid) break;
    numbers[i] = (*value)[i].get<float>();
    valid = numbers[i] >= low && numbers[i] <= 1;
  }
  if (valid) return numbers;
  fields.fail(make_error(ErrorCode::kCorrupt,
                         "{}: pretrained_cfg.{} is {}; expected three numbers in [{}, 1]",
                         fields.source(), field, shown(*value), low));
  return otherwise;
}

int64_t image_size(ConfigFields& fields, int64_t otherwise) {
  const Json* value = fields.find("input_size");
  if (value == nullptr) return otherwise;
  bool valid = value->is_array() && value->size() == 3;
  for (size_t i = 0; valid && i < 3; ++i) valid = (*value)[i].is_number_integer();
  valid = valid && (*value)[0] == 3 && (*value)[1] == (*value)[2] && (*value)[1] >= 1 &&
          (*value)[1] <= kMaxImageSize;
  if (valid) return (*value)[1].get<int64_t>();
  fields.fail(make_error(
      ErrorCode::kUnsupported,
      "{}: pretrained_cfg.input_size is {}; expected [3, size, size] with size at most {}",
      fields.source(), shown(*value), kMaxImageSize));
  return otherwise;
}

int64_t round_half_to_even(int64_t twice) {
  return static_cast<int64_t>(std::nearbyint(static_cast<double>(twice) / 2.0));
}

}  // namespace

Result<Preprocessing> parse_preprocessing(const Json& config, const std::string& source) {
  Preprocessing result;
  const auto found = config.find("pretrained_cfg");
  if (found == config.end() || found->is_null()) return result;
  if (!found->is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: pretrained_cfg is {}; expected an object", source,
                      shown(*found));
  }
  ConfigFields fields(*found, source);
  result.image_size = image_size(fields, result.image_size);
  result.crop_pct = fields.number("crop_pct", 0.01, 1.0).value_or(result.crop_pct);
  result.normalization.mean = three_numbers(fields, "mean", 0, result.normalization.mean);
  result.normalization.std = three_numbers(fields, "std", 1e-6, result.normalization.std);
  const std::string filter = fields.string("interpolation").value_or("bicubic");
  if (filter != "bicubic" && filter != "bilinear") {
    fields.unsupported("interpolation", filter, "bicubic, bilinear");
  }
  result.filter = filter == "bilinear" ? Filter::kBilinear : Filter::kBicubic;
  const std::string mode = fields.string("crop_mode").value_or("center");
  if (mode != "center" && mode != "squash") fields.unsupported("crop_mode", mode, "center, squash");
  result.crop_mode = mode == "squash" ? CropMode::kSquash : CropMode::kCenter;
  if (fields.error()) return *fields.error();
  return result;
}

Image evaluation_crop(const Image& image, const Preprocessing& preprocessing) {
  const int64_t size = preprocessing.image_size;
  const auto resized =
      static_cast<int64_t>(std::floor(static_cast<double>(size) / preprocessing.crop_pct));
  int64_t width = resized;
  int64_t height = resized;
  if (preprocessing.crop_mode == CropMode::kCenter) {
    const auto longer = [&](int64_t long_side, int64_t short_side) {
      return static_cast<int64_t>(static_cast<double>(resized * long_side) /
                                  static_cast<double>(short_side));
    };
    if (image.width <= image.height) {
      height = longer(image.height, image.width);
    } else {
      width = longer(image.width, image.height);
    }
  }
  const PixelBox window{round_half_to_even(width - size), round_half_to_even(height - size), size,
                        size};
  return resample(image, {0, 0, image.width, image.height}, width, height, window,
                  preprocessing.filter);
}

void normalize(std::span<const uint8_t> rgb, const Normalization& normalization,
               std::span<float> values) {
  COMET_CHECK(values.size() == rgb.size() && rgb.size() % 3 == 0,
              "{} values for {} bytes of pixels", values.size(), rgb.size());
  // One of 256 values a colour: the same as computing each, and less work.
  std::array<std::array<float, 256>, 3> table{};
  for (int c = 0; c < 3; ++c) {
    for (int byte = 0; byte < 256; ++byte) {
      table[c][byte] =
          (static_cast<float>(byte) / 255.0F - normalization.mean[c]) / normalization.std[c];
    }
  }
  for (size_t i = 0; i < rgb.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) values[i + c] = table[c][rgb[i + c]];
  }
}

}  // namespace comet::io
