option(ORCH_WERROR "Warnings are errors (CI sets it)" OFF)
add_library(orch_warnings INTERFACE)
target_compile_options(orch_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  -Wno-missing-field-initializers -Werror=switch -Werror=return-type $<$<BOOL:${ORCH_WERROR}>:-Werror>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
  # GCC 12 finds overlaps that are not there in std::string's operator+ (its bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)

# orch_library(NAME SOURCES… DEPS…): one static library per folder; includes are relative to the repository.
function(orch_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE orch_warnings PUBLIC ${ARG_DEPS})
endfunction()

# orch_binary(NAME SOURCES… DEPS…)
function(orch_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE orch_warnings ${ARG_DEPS})
endfunction()

# orch_test(NAME [TSAN] SOURCES… DEPS… LABELS…): one GoogleTest binary per folder of tests.
# TSAN marks a gRPC-free binary that the tsan preset builds and runs.
add_custom_target(tsan_tests)
add_custom_target(unit_tests)  # all of them, and nothing else
function(orch_test name)
  cmake_parse_arguments(ARG "TSAN" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE orch_warnings ${ARG_DEPS} GTest::gmock_main)
  add_dependencies(unit_tests ${name})
  set(labels ${ARG_LABELS})
  if(ARG_TSAN)
    list(APPEND labels tsan)
    add_dependencies(tsan_tests ${name})
  endif()
  list(JOIN labels "-" label)  # one word, found by any part of it: a list would not survive the discovery
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${label}")
endfunction()
