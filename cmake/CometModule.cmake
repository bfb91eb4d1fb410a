# comet_module(<room> [DEPENDS <room>...] [EXTERNAL <target>...])
#
# Makes the library comet_<room> of src/comet/<room>, and, from the same folder by file suffix:
#   *_test.cpp   -> the test program comet_<room>_test, each test known to ctest
#   *_<isa>.cpp  -> compiled with that instruction set's flags (CometFlags.cmake)
#   *.cu, *_cuda.cpp -> only with the CUDA backend; without it *_absent.cpp is linked in their place
#   *_cuda_test.cpp  -> with the CUDA backend, into the one program comet_gpu_test (tests/)
set_property(GLOBAL PROPERTY COMET_ROOMS "")
set_property(GLOBAL PROPERTY COMET_GPU_TESTS "")

# A test that takes longer hangs. Under a sanitizer, on a machine that runs one on each core, a test takes
# ten to thirty times as long as alone without.
set(COMET_TEST_TIMEOUT 300)
if(COMET_SANITIZE)
  set(COMET_TEST_TIMEOUT 1500)
endif()

function(comet_module room)
  cmake_parse_arguments(ARG "" "" "DEPENDS;EXTERNAL" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/comet/${room})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.cpp)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  set(gpu_tests ${tests})
  list(FILTER gpu_tests INCLUDE REGEX "_cuda_test\\.cpp$")
  list(FILTER tests EXCLUDE REGEX "_cuda_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench)\\.cpp$")
  if(COMET_HAVE_CUDA)
    list(FILTER sources EXCLUDE REGEX "_absent\\.cpp$")
    file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${dir}/*.cu)
    list(APPEND sources ${cuda_sources})
    set_property(GLOBAL APPEND PROPERTY COMET_GPU_TESTS ${gpu_tests})
  else()
    list(FILTER sources EXCLUDE REGEX "_cuda\\.cpp$")
  endif()
  foreach(isa avx2 avx512 avx512vnni)
    set(isa_sources ${sources})
    list(FILTER isa_sources INCLUDE REGEX "_${isa}\\.cpp$")
    if(isa_sources)
      set_source_files_properties(${isa_sources} PROPERTIES COMPILE_OPTIONS "${COMET_ISA_${isa}}"
                                                            SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()

  add_library(comet_${room} STATIC ${sources})
  target_include_directories(comet_${room} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src>
                                                  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  foreach(dep ${ARG_DEPENDS})
    target_link_libraries(comet_${room} PUBLIC comet_${dep})
  endforeach()
  target_link_libraries(comet_${room} PUBLIC ${ARG_EXTERNAL})
  comet_precompile(comet_${room} ${COMET_PRECOMPILED} AS comet_base)
  set_property(GLOBAL APPEND PROPERTY COMET_ROOMS ${room})

  if(COMET_BUILD_TESTS AND tests)
    add_executable(comet_${room}_test ${tests})
    target_link_libraries(comet_${room}_test PRIVATE comet_${room} GTest::gtest_main)
    target_include_directories(comet_${room}_test PRIVATE ${CMAKE_SOURCE_DIR}/tests)
    target_compile_definitions(comet_${room}_test PRIVATE COMET_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    target_compile_options(comet_${room}_test PRIVATE ${COMET_QUICK_TO_COMPILE})
    comet_precompile(comet_${room}_test ${COMET_PRECOMPILED} gtest/gtest.h AS comet_base_test)
    gtest_discover_tests(comet_${room}_test TEST_PREFIX "${room}." DISCOVERY_MODE PRE_TEST
                         PROPERTIES TIMEOUT ${COMET_TEST_TIMEOUT})
  endif()
endfunction()

# One archive libcomet.a with every room, for `cmake --install` and outside projects.
function(comet_umbrella_library)
  get_property(rooms GLOBAL PROPERTY COMET_ROOMS)
  set(objects "")
  foreach(room ${rooms})
    list(APPEND objects $<TARGET_OBJECTS:comet_${room}>)
  endforeach()
  add_library(comet STATIC ${objects})
  set_target_properties(comet PROPERTIES LINKER_LANGUAGE CXX)
  target_compile_features(comet PUBLIC cxx_std_20)
  target_include_directories(comet PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src>
                                          $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(comet PUBLIC comet_fmt nlohmann_json::nlohmann_json Threads::Threads
                        comet_pcre2 comet_utf8proc comet_jpeg comet_png comet_zlib)
  if(COMET_HAVE_CUDA)
    target_link_libraries(comet PUBLIC CUDA::cudart_static)
  endif()
endfunction()
