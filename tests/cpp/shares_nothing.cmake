# Fails when an object file defines a weak symbol, that is, an inline function or template the linker may share.
#   cmake -DNM=nm -DOBJECTS=a.o;b.o -P shares_nothing.cmake
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --demangle --defined-only ${object} OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [WVu] [^\n]*" weak "${symbols}")
  list(FILTER weak EXCLUDE REGEX " DW\\.ref\\.")
  if(weak)
    list(JOIN weak "\n  " lines)
    message(SEND_ERROR "${object} defines symbols the linker may share; give them internal linkage:\n  ${lines}")
  endif()
endforeach()
