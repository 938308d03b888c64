# orch_embed_migrations(TARGET DIR): turns DIR/NNNN_words.sql into one C++ file with each text and its SHA-256, and
# fails on a gap or a bad name.
function(orch_embed_migrations target dir)
  set(out ${CMAKE_BINARY_DIR}/gen/migrations/embedded.cc)
  file(GLOB files CONFIGURE_DEPENDS ${dir}/*.sql)
  list(SORT files)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DDIR=${dir} -DOUT=${out} -P ${CMAKE_SOURCE_DIR}/cmake/embed_sql_script.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed_sql_script.cmake VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
