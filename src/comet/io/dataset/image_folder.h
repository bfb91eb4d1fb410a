// ImageFolder: a data set on disk, a folder a class, images anywhere below it. Callers: the data
// loader (train), apps. Order is that of names, byte by byte, whatever the file system says.
#pragma once

#include <string>
#include <vector>

#include "comet/io/dataset/class_labels.h"

namespace comet::io {

struct ImageSample {
  std::string path;
  int32_t label = 0;
};

struct ImageFolder {
  std::string root;
  std::vector<std::string> classes;  // by label
  std::vector<ImageSample> samples;  // by label, then path
};

/// Labels are positions in the sorted list of `root`'s subfolders; with a class map (null: none)
/// they are its indices, and a folder that it does not name is an error. A class without images is
/// an error, too. Images are files named .jpg, .jpeg or .png, in any case.
Result<ImageFolder> open_image_folder(const std::string& root, const ClassLabels* class_map);

/// The part of a data set: root/<split> for the first of `splits` that there is, or root itself
/// where there is none of them (it holds the classes).
std::string split_folder(const std::string& root, const std::vector<std::string>& splits);

/// Images among `paths`: files as they are, folders searched in order of names.
Result<std::vector<std::string>> list_images(const std::vector<std::string>& paths);

}  // namespace comet::io
