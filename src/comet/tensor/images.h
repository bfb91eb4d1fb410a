// Images, ConstImages: a batch of NHWC images, contiguous, in one of the float types: what
// operators over images take where the device decides the type (CPU: FP32; CUDA: BF16, too).
// Kernels of one type take a View: f32(). A pixel's channels are a row: rows().
#pragma once

#include "comet/tensor/rows.h"

namespace comet {

struct ConstImages {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t num_images = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;

  ConstImages() = default;
  // Each of these is such a batch already.
  // NOLINTBEGIN(google-explicit-constructor)
  ConstImages(const View<const float, 4>& x)
      : data(x.data),
        num_images(x.size(0)),
        height(x.size(1)),
        width(x.size(2)),
        channels(x.size(3)) {
    COMET_CHECK(x.strides == (View<const float, 4>(x.data, x.sizes).strides),
                "images are not contiguous");
  }
  ConstImages(const View<float, 4>& x) : ConstImages(View<const float, 4>(x)) {}
  ConstImages(const Tensor& x)
      : data(x.raw()),
        dtype(x.dtype()),
        num_images(x.size(0)),
        height(x.size(1)),
        width(x.size(2)),
        channels(x.size(3)) {
    COMET_CHECK(x.shape().rank() == 4 && x.contiguous(), "{} as images", x.shape().to_string());
  }
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] bool empty() const { return data == nullptr; }
  [[nodiscard]] int64_t num_pixels() const { return num_images * height * width; }
  [[nodiscard]] bool same_shape(const ConstImages& other) const {
    return num_images == other.num_images && height == other.height && width == other.width &&
           channels == other.channels;
  }
  [[nodiscard]] ConstRows rows() const { return {data, dtype, num_pixels(), channels, channels}; }
  [[nodiscard]] View<const float, 4> f32() const {
    COMET_CHECK(dtype == DType::kF32, "images of {}", dtype_name(dtype));
    return {static_cast<const float*>(data), {num_images, height, width, channels}};
  }
};

struct Images {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t num_images = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;

  Images() = default;
  // NOLINTBEGIN(google-explicit-constructor)
  Images(const View<float, 4>& x) : Images(ConstImages(x), x.data) {}
  Images(const Tensor& x) : Images(ConstImages(x), x.raw()) {}
  operator ConstImages() const {
    ConstImages images;
    images.data = data;
    images.dtype = dtype;
    images.num_images = num_images;
    images.height = height;
    images.width = width;
    images.channels = channels;
    return images;
  }
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] int64_t num_pixels() const { return num_images * height * width; }
  [[nodiscard]] View<float, 4> f32() const {
    COMET_CHECK(dtype == DType::kF32, "images of {}", dtype_name(dtype));
    return {static_cast<float*>(data), {num_images, height, width, channels}};
  }

 private:
  Images(const ConstImages& x, void* pointer)
      : data(pointer),
        dtype(x.dtype),
        num_images(x.num_images),
        height(x.height),
        width(x.width),
        channels(x.channels) {}
};

}  // namespace comet
