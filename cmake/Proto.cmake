# orch_proto_library(NAME ROOT <import root> MESSAGES a.proto… SERVICES b.proto… DEPS…)
# Generates C++ for protos under ROOT; SERVICES also get gRPC stubs, in NAME_grpc, so that users of the messages
# alone do not compile gRPC.
function(orch_proto_library name)
  cmake_parse_arguments(ARG "" "ROOT" "MESSAGES;SERVICES;DEPS" ${ARGN})
  set(out ${CMAKE_BINARY_DIR}/gen)
  file(MAKE_DIRECTORY ${out})
  set(all_protos)
  foreach(proto ${ARG_MESSAGES} ${ARG_SERVICES})
    list(APPEND all_protos ${ARG_ROOT}/${proto})
  endforeach()
  foreach(proto ${ARG_MESSAGES} ${ARG_SERVICES})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    add_custom_command(
      OUTPUT ${out}/${stem}.pb.cc ${out}/${stem}.pb.h
      COMMAND protobuf::protoc --cpp_out=${out} -I ${ARG_ROOT} ${proto}
      DEPENDS ${all_protos} protobuf::protoc WORKING_DIRECTORY ${ARG_ROOT} VERBATIM)
    list(APPEND sources ${out}/${stem}.pb.cc)
  endforeach()
  add_library(${name} STATIC ${sources})
  target_include_directories(${name} SYSTEM PUBLIC ${out})
  target_link_libraries(${name} PUBLIC protobuf::libprotobuf ${ARG_DEPS})
  target_compile_options(${name} PRIVATE -w)
  foreach(proto ${ARG_SERVICES})
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    add_custom_command(
      OUTPUT ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h
      COMMAND protobuf::protoc --grpc_out=${out} --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin> -I ${ARG_ROOT} ${proto}
      DEPENDS ${all_protos} protobuf::protoc gRPC::grpc_cpp_plugin WORKING_DIRECTORY ${ARG_ROOT} VERBATIM)
    list(APPEND grpc_sources ${out}/${stem}.grpc.pb.cc)
  endforeach()
  if(grpc_sources)
    add_library(${name}_grpc STATIC ${grpc_sources})
    target_link_libraries(${name}_grpc PUBLIC ${name} gRPC::grpc++)
    target_compile_options(${name}_grpc PRIVATE -w)
  endif()
endfunction()
