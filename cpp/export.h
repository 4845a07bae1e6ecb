// What a module's abi.cc is made of: exported functions, and the stack of the worker that runs it. For one source file of
// a module: it defines setStack.
#pragma once

#define LUTRA_EXPORT extern "C" __attribute__((visibility("default"), used))

// Each worker of a crew has its own stack in the shared memory: called first, with its upper end.
asm(R"(
  .globaltype __stack_pointer, i32
  .globl setStack
  .type setStack,@function
  setStack:
  .functype setStack (i32) -> ()
  local.get 0
  global.set __stack_pointer
  end_function
  .export_name setStack, setStack
)");
