#include "comet/ops/image_input/image_input.h"

#include "comet/ops/op_table.h"
#include "comet/ops/parallel_rows.h"

namespace comet {

void image_input(Context& ctx, Images out, View<const uint8_t, 4> pixels, const ImageInput& input) {
  COMET_CHECK(out.num_images == pixels.size(0) && out.height == pixels.size(1) &&
                  out.width == pixels.size(2) && out.channels == 3 && pixels.size(3) == 3 &&
                  pixels.strides == (View<const uint8_t, 4>(pixels.data, pixels.sizes).strides),
              "out [{}, {}, {}, {}], pixels [{}, {}, {}, {}]", out.num_images, out.height,
              out.width, out.channels, pixels.size(0), pixels.size(1), pixels.size(2),
              pixels.size(3));
  COMET_CHECK(
      0 <= input.top && input.bottom <= out.height && 0 <= input.left && input.right <= out.width,
      "a box of rows {} to {}, columns {} to {} in {} x {}", input.top, input.bottom, input.left,
      input.right, out.width, out.height);
  COMET_CHECK(ctx.ops.image_input != nullptr, "image_input has no kernel on this device");
  ctx.ops.image_input(ctx, out, pixels, input);
}

void image_input_cpu(Context& ctx, Images images, View<const uint8_t, 4> pixels,
                     const ImageInput& input) {
  const View<float, 4> out = images.f32();
  const int64_t height = images.height;
  const int64_t width = images.width;
  const float share = input.mixup_share;
  parallel_rows(ctx, images.num_images * height, width * 3, [&](int64_t i) {
    const int64_t y = i % height;
    const int64_t opposite = (images.num_images - 1 - i / height) * height + y;
    const uint8_t* own = pixels.data + i * width * 3;
    const uint8_t* other = pixels.data + opposite * width * 3;
    float* to = out.data + i * width * 3;
    const bool row_in_box = input.top <= y && y < input.bottom;
    for (int64_t px = 0; px < width; ++px) {
      const bool in_box = row_in_box && input.left <= px && px < input.right;
      for (size_t c = 0; c < 3; ++c, ++own, ++other, ++to) {
        const auto a = static_cast<float>(in_box ? *other : *own);
        const float x = share == 1.0F ? a : share * a + (1.0F - share) * static_cast<float>(*other);
        *to = (x / 255.0F - input.mean[c]) / input.std[c];
      }
    }
  });
}

}  // namespace comet
