# `cmake --install`: bin/comet, libcomet.a, public headers, share/comet and a CMake package Comet::comet.
include(CMakePackageConfigHelpers)
install(TARGETS comet EXPORT CometTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS comet_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/src/comet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${CMAKE_SOURCE_DIR}/models/demo/calibration.txt DESTINATION ${CMAKE_INSTALL_DATADIR}/comet)
install(EXPORT CometTargets NAMESPACE Comet:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Comet)
configure_package_config_file(${CMAKE_SOURCE_DIR}/cmake/CometConfig.cmake.in ${CMAKE_BINARY_DIR}/CometConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Comet)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/CometConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_SOURCE_DIR}/cmake/CometStaticLibraries.cmake
              ${CMAKE_BINARY_DIR}/CometConfig.cmake ${CMAKE_BINARY_DIR}/CometConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Comet)
