#include "comet/tensor/tensor.h"

#include <algorithm>
#include <numeric>

namespace comet {

Shape::Shape(std::initializer_list<int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  COMET_CHECK(rank_ <= kMaxRank, "{} axes; at most {}", rank_, kMaxRank);
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
}

Shape::Shape(const std::vector<int64_t>& sizes) : rank_(static_cast<int>(sizes.size())) {
  COMET_CHECK(rank_ <= kMaxRank, "{} axes; at most {}", rank_, kMaxRank);
  for (int i = 0; i < rank_; ++i) {
    COMET_CHECK(sizes[i] >= 0, "axis {} has size {}", i, sizes[i]);
    sizes_[i] = sizes[i];
  }
}

int64_t Shape::num_elements() const {
  return std::accumulate(sizes_.begin(), sizes_.begin() + rank_, int64_t{1}, std::multiplies<>());
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i == 0 ? "" : ", ") + std::to_string(sizes_[i]);
  return text + "]";
}

Storage::Storage(Allocator& allocator, size_t bytes)
    : data_(allocator.allocate(bytes)), bytes_(bytes), allocator_(&allocator) {}

Storage::Storage(std::byte* data, size_t bytes, std::shared_ptr<const void> owner)
    : data_(data), bytes_(bytes), owner_(std::move(owner)) {}

Storage::~Storage() {
  if (allocator_ != nullptr) allocator_->free(data_, bytes_);
}

Tensor::Tensor(std::shared_ptr<Storage> storage, size_t offset_bytes, DType dtype,
               const Shape& shape)
    : storage_(std::move(storage)), offset_bytes_(offset_bytes), dtype_(dtype), shape_(shape) {
  COMET_CHECK(offset_bytes_ + static_cast<size_t>(num_bytes()) <= storage_->bytes(),
              "tensor {} at {} exceeds {} bytes of storage", shape.to_string(), offset_bytes_,
              storage_->bytes());
  int64_t stride = 1;
  for (int i = shape_.rank() - 1; i >= 0; --i) {
    strides_[i] = stride;
    stride *= shape_[i];
  }
}

bool Tensor::contiguous() const {
  int64_t stride = 1;
  for (int i = shape_.rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[i] != stride) return false;
    stride *= shape_[i];
  }
  return true;
}

Tensor Tensor::reshape(const Shape& shape) const {
  COMET_CHECK(contiguous(), "only a contiguous tensor is reshaped");
  COMET_CHECK(shape.num_elements() == num_elements(), "{} does not become {}", shape_.to_string(),
              shape.to_string());
  return {storage_, offset_bytes_, dtype_, shape};
}

Tensor Tensor::slice(int axis, int64_t begin, int64_t end) const {
  COMET_CHECK(
      axis >= 0 && axis < shape_.rank() && begin >= 0 && begin <= end && end <= shape_[axis],
      "slice [{}, {}) of axis {} of {}", begin, end, axis, shape_.to_string());
  std::vector<int64_t> sizes;
  for (int i = 0; i < shape_.rank(); ++i) sizes.push_back(i == axis ? end - begin : shape_[i]);
  Tensor part = *this;
  part.shape_ = Shape(sizes);
  part.offset_bytes_ += static_cast<size_t>(begin * strides_[axis] * dtype_bytes(dtype_));
  return part;
}

Tensor allocate_tensor(Allocator& memory, DType dtype, const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  return {std::make_shared<Storage>(memory, bytes), 0, dtype, shape};
}

Arena::Arena(Allocator& allocator, size_t block_bytes)
    : allocator_(allocator), block_bytes_(block_bytes) {}

Tensor Arena::alloc(DType dtype, const Shape& shape) {
  const size_t bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  const size_t padded = (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
  while (top_.block_idx < blocks_.size() &&
         top_.used_bytes + padded > blocks_[top_.block_idx]->bytes()) {
    top_ = {top_.block_idx + 1, 0};
  }
  if (top_.block_idx == blocks_.size()) {
    const size_t last = blocks_.empty() ? block_bytes_ / 2 : blocks_.back()->bytes();
    blocks_.push_back(std::make_shared<Storage>(allocator_, std::max(padded, last * 2)));
    ++num_blocks_taken_;
  }
  Tensor tensor(blocks_[top_.block_idx], top_.used_bytes, dtype, shape);
  top_.used_bytes += padded;
  return tensor;
}

size_t Arena::capacity_bytes() const {
  size_t total = 0;
  for (const auto& block : blocks_) total += block->bytes();
  return total;
}

}  // namespace comet
