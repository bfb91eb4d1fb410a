#include "comet/io/dataset/image_folder.h"

#include <algorithm>
#include <filesystem>

namespace comet::io {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 16;  // of folders below a class; a link may lead back

bool is_image_name(const fs::path& path) {
  std::string suffix = path.extension().string();
  std::ranges::transform(suffix, suffix.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  return suffix == ".jpg" || suffix == ".jpeg" || suffix == ".png";
}

/// What a folder holds, sorted by name; hidden entries are left out.
Result<std::vector<fs::directory_entry>> entries_of(const std::string& folder) {
  std::error_code failure;
  std::vector<fs::directory_entry> entries;
  fs::directory_iterator next(folder, failure);
  for (; !failure && next != fs::directory_iterator(); next.increment(failure)) {
    if (!next->path().filename().string().starts_with('.')) entries.push_back(*next);
  }
  if (failure) {
    return make_error(ErrorCode::kIo, "{}: cannot list the folder: {}", folder, failure.message());
  }
  std::ranges::sort(entries, {}, [](const fs::directory_entry& entry) {
    return entry.path().filename().string();
  });
  return entries;
}

Status add_images(const std::string& folder, int depth, std::vector<std::string>& images) {
  if (depth > kMaxDepth) {
    return make_error(ErrorCode::kInvalidArgument, "{}: folders nest deeper than {}", folder,
                      kMaxDepth);
  }
  const auto entries = entries_of(folder);
  if (!entries) return entries.error();
  for (const fs::directory_entry& entry : *entries) {
    std::error_code ignored;
    if (entry.is_directory(ignored)) {
      if (const Status below = add_images(entry.path().string(), depth + 1, images); !below) {
        return below;
      }
    } else if (is_image_name(entry.path())) {
      images.push_back(entry.path().string());
    }
  }
  return {};
}

Result<std::vector<std::string>> class_folders(const std::string& root) {
  const auto entries = entries_of(root);
  if (!entries) return entries.error();
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : *entries) {
    std::error_code ignored;
    if (entry.is_directory(ignored)) names.push_back(entry.path().filename().string());
  }
  if (names.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: holds no folders; expected one for each class, with its images", root);
  }
  return names;
}

}  // namespace

Result<ImageFolder> open_image_folder(const std::string& root, const ClassLabels* class_map) {
  const auto names = class_folders(root);
  if (!names) return names.error();
  ImageFolder folder{root, class_map == nullptr ? *names : class_map->names, {}};
  for (size_t i = 0; i < names->size(); ++i) {
    const std::string& name = (*names)[i];
    const auto label =
        class_map == nullptr ? static_cast<int64_t>(i) : class_map->index_of(name).value_or(-1);
    if (label < 0) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}/{}: no class has this name (there are {}, the first is '{}'); rename "
                        "the folder or give a --class-map",
                        root, name, folder.classes.size(), folder.classes.front());
    }
    std::vector<std::string> images;
    const std::string path = (fs::path(root) / name).string();
    if (const Status listed = add_images(path, 0, images); !listed) return listed.error();
    if (images.empty()) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: the class has no images (.jpg, .jpeg or .png); add some or remove the "
                        "folder",
                        path);
    }
    for (std::string& image : images) {
      folder.samples.push_back({std::move(image), static_cast<int32_t>(label)});
    }
  }
  std::ranges::stable_sort(folder.samples, {}, &ImageSample::label);
  return folder;
}

std::string split_folder(const std::string& root, const std::vector<std::string>& splits) {
  for (const std::string& split : splits) {
    std::error_code ignored;
    const fs::path path = fs::path(root) / split;
    if (fs::is_directory(path, ignored)) return path.string();
  }
  return root;
}

Result<std::vector<std::string>> list_images(const std::vector<std::string>& paths) {
  std::vector<std::string> images;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      images.push_back(path);
      continue;
    }
    const size_t num_before = images.size();
    if (const Status listed = add_images(path, 0, images); !listed) return listed.error();
    if (images.size() == num_before) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: the folder holds no images (.jpg, .jpeg or .png)", path);
    }
  }
  return images;
}

}  // namespace comet::io
