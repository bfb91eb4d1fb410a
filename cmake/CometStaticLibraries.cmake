# Debian's static archives as imported targets: the binary needs none of these libraries at run time.
# Included by the build and, installed beside it, by CometConfig.cmake.
function(comet_static_library target archive header)
  if(TARGET ${target})
    return()
  endif()
  find_library(${target}_ARCHIVE NAMES ${archive})
  find_path(${target}_INCLUDE_DIR NAMES ${header})
  if(NOT ${target}_ARCHIVE OR NOT ${target}_INCLUDE_DIR)
    message(FATAL_ERROR "Comet: ${archive} or ${header} not found (./dev deps installs libpcre2-dev, libutf8proc-dev, zlib1g-dev, libjpeg62-turbo-dev and libpng-dev)")
  endif()
  mark_as_advanced(${target}_ARCHIVE ${target}_INCLUDE_DIR)
  add_library(${target} STATIC IMPORTED)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION "${${target}_ARCHIVE}"
                                             INTERFACE_INCLUDE_DIRECTORIES "${${target}_INCLUDE_DIR}"
                                             INTERFACE_COMPILE_DEFINITIONS "${ARGN}")
endfunction()

# fmt's headers alone: its functions are in libcomet (base/fmt_library.cpp).
if(NOT TARGET comet_fmt)
  add_library(comet_fmt INTERFACE IMPORTED)
  get_target_property(fmt_include_dir fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
  set_target_properties(comet_fmt PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${fmt_include_dir}")
endif()

comet_static_library(comet_pcre2 libpcre2-8.a pcre2.h PCRE2_CODE_UNIT_WIDTH=8)
comet_static_library(comet_utf8proc libutf8proc.a utf8proc.h UTF8PROC_STATIC)
comet_static_library(comet_zlib libz.a zlib.h)
comet_static_library(comet_jpeg libjpeg.a jpeglib.h)
comet_static_library(comet_png libpng16.a png.h)
target_link_libraries(comet_png INTERFACE comet_zlib m)
