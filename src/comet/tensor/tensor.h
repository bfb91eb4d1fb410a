// Storage owns bytes, Tensor is a cheap handle on a part of them (shared Storage, offset, shape,
// strides, dtype), Arena hands out short-lived tensors of a step without allocating.
// No arithmetic here: kernels see View<T, N> (view.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "comet/base/check.h"
#include "comet/tensor/dtype.h"
#include "comet/tensor/view.h"

namespace comet {

/// Sizes of up to five axes.
class Shape {
 public:
  static constexpr int kMaxRank = 5;
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);
  explicit Shape(const std::vector<int64_t>& sizes);

  [[nodiscard]] int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[axis]; }
  [[nodiscard]] int64_t num_elements() const;
  [[nodiscard]] std::string to_string() const;  // "[3, 4]"
  bool operator==(const Shape& other) const = default;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

/// Where bytes come from. Implementations live in device/ (aligned host memory, device memory).
class Allocator {
 public:
  virtual ~Allocator() = default;
  virtual std::byte* allocate(size_t bytes) = 0;  // throws std::bad_alloc
  virtual void free(std::byte* data, size_t bytes) = 0;
};

/// Owned bytes, or bytes kept alive by another owner (a memory-mapped file).
class Storage {
 public:
  Storage(Allocator& allocator, size_t bytes);
  Storage(std::byte* data, size_t bytes, std::shared_ptr<const void> owner);
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  std::byte* data_;
  size_t bytes_;
  Allocator* allocator_ = nullptr;
  std::shared_ptr<const void> owner_;
};

class Tensor {
 public:
  Tensor() = default;
  /// Contiguous.
  Tensor(std::shared_ptr<Storage> storage, size_t offset_bytes, DType dtype, const Shape& shape);

  [[nodiscard]] bool defined() const { return storage_ != nullptr; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] int64_t size(int axis) const { return shape_[axis]; }
  /// Elements from one index of the axis to the next.
  [[nodiscard]] int64_t stride(int axis) const { return strides_[axis]; }
  [[nodiscard]] int64_t num_elements() const { return shape_.num_elements(); }
  /// Bytes of a contiguous tensor of this shape.
  [[nodiscard]] int64_t num_bytes() const { return num_elements() * dtype_bytes(dtype_); }
  [[nodiscard]] bool contiguous() const;
  [[nodiscard]] std::byte* raw() const { return storage_->data() + offset_bytes_; }

  template <typename T>
  [[nodiscard]] T* data() const {
    COMET_CHECK(DTypeOf<std::remove_const_t<T>>::value == dtype_, "tensor holds {}",
                dtype_name(dtype_));
    return reinterpret_cast<T*>(raw());
  }

  template <typename T, int N>
  [[nodiscard]] View<T, N> view() const {
    COMET_CHECK(shape_.rank() == N, "tensor of shape {} viewed with {} axes", shape_.to_string(),
                N);
    View<T, N> v;
    v.data = data<T>();
    for (int i = 0; i < N; ++i) {
      v.sizes[i] = shape_[i];
      v.strides[i] = strides_[i];
    }
    return v;
  }

  /// The same elements under another shape; contiguous tensors only.
  [[nodiscard]] Tensor reshape(const Shape& shape) const;
  /// Elements [begin, end) of one axis; shares storage.
  [[nodiscard]] Tensor slice(int axis, int64_t begin, int64_t end) const;

 private:
  std::shared_ptr<Storage> storage_;
  size_t offset_bytes_ = 0;
  DType dtype_ = DType::kF32;
  Shape shape_;
  std::array<int64_t, Shape::kMaxRank> strides_{};
};

/// Contiguous and uninitialized, with memory of its own.
Tensor allocate_tensor(Allocator& memory, DType dtype, const Shape& shape);

/// A bump allocator: `alloc` is a pointer increment, ArenaScope frees everything allocated since.
/// Grows only while it warms up (a larger block is taken when the present one is full); a steady
/// step allocates nothing. One thread.
class Arena {
 public:
  static constexpr size_t kAlignBytes = 64;
  explicit Arena(Allocator& allocator, size_t block_bytes = size_t{1} << 20);

  /// Uninitialized; valid until the enclosing ArenaScope ends.
  Tensor alloc(DType dtype, const Shape& shape);
  template <typename T>
  T* alloc_array(int64_t count) {
    return alloc(DTypeOf<T>::value, {count}).template data<T>();
  }
  /// Number of blocks ever taken from the allocator: constant in a steady state.
  [[nodiscard]] int64_t num_blocks_taken() const { return num_blocks_taken_; }
  [[nodiscard]] size_t capacity_bytes() const;

 private:
  friend class ArenaScope;
  struct Mark {
    size_t block_idx = 0;
    size_t used_bytes = 0;
  };
  Allocator& allocator_;
  size_t block_bytes_;
  std::vector<std::shared_ptr<Storage>> blocks_;
  Mark top_;
  int64_t num_blocks_taken_ = 0;
};

class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.top_) {}
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
  ~ArenaScope() { arena_.top_ = mark_; }

 private:
  Arena& arena_;
  Arena::Mark mark_;
};

}  // namespace comet
