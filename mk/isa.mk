# Kernels compiled once per instruction set; filled by src/engine/cpu.
ISA_OBJ :=
