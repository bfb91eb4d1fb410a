# Compiler flags of every target. The numeric formats (docs/formats.md) need IEEE arithmetic as written:
# no contraction of a*b+c, no fast-math; tests/build_flags_test.cpp checks that this holds.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g")
# Tests and commands have no loops that time counts in; half of the optimizer's time was theirs. At -O1
# GCC 12 takes the buffer of its own short strings for too small (its bug 105651).
set(COMET_QUICK_TO_COMPILE "$<$<COMPILE_LANGUAGE:CXX>:-O1>" "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-restrict>")

find_program(COMET_CCACHE ccache)
if(COMET_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${COMET_CCACHE})
  if(COMET_PRECOMPILE)  # else ccache leaves alone what includes precompiled headers
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${COMET_CCACHE})
    add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
  endif()
endif()

# comet_precompile(<target> <header>... [AS <target>]): reading these took half of the compiler's time.
# A target takes those of the one behind AS, whose flags are the same.
function(comet_precompile target)
  cmake_parse_arguments(ARG "" "AS" "" ${ARGN})
  if(NOT COMET_PRECOMPILE)
    return()
  endif()
  if(ARG_AS AND NOT ARG_AS STREQUAL target)
    target_precompile_headers(${target} REUSE_FROM ${ARG_AS})
  else()
    list(TRANSFORM ARG_UNPARSED_ARGUMENTS REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:<\\1$<ANGLE-R>>")
    target_precompile_headers(${target} PRIVATE ${ARG_UNPARSED_ARGUMENTS})
  endif()
endfunction()
set(COMET_PRECOMPILED algorithm array filesystem functional map memory optional span string unordered_map vector
    fmt/format.h nlohmann/json.hpp)

set(COMET_CXX_FLAGS -march=x86-64-v2 -mtune=generic -ffp-contract=off -fno-math-errno -Wall -Wextra -Wshadow)
if(COMET_WERROR)
  list(APPEND COMET_CXX_FLAGS -Werror)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${COMET_CXX_FLAGS}>")
add_link_options(-static-libstdc++ -static-libgcc)
if(COMET_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(COMET_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=address,undefined)
elseif(COMET_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=thread)
elseif(NOT COMET_SANITIZE STREQUAL "")
  message(FATAL_ERROR "COMET_SANITIZE is '${COMET_SANITIZE}'; expected empty, address or thread")
endif()

# A source whose name ends in _<isa>.cpp is compiled for that instruction set and reached only through
# run-time dispatch. Such files include no header with inline functions of external linkage
# (tools/check_style.py holds the list), so no AVX code leaks into baseline callers.
set(COMET_ISA_avx2 -mavx2 -mfma -mf16c -mbmi2)
# GCC 12 takes the deliberately undefined operand of its own AVX-512 intrinsics for a mistake.
set(COMET_ISA_avx512 ${COMET_ISA_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
    -Wno-maybe-uninitialized -Wno-uninitialized)
set(COMET_ISA_avx512vnni ${COMET_ISA_avx512} -mavx512vnni)
