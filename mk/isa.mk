# Kernels: every file of src/engine/cpu/kernels is compiled once per instruction set, with its name
# in the macro ISA. The set is chosen at run time (src/engine/cpu/kernels.c).
ISA_SRC   := $(sort $(wildcard src/engine/cpu/kernels/*.c))
ISA_NAMES := generic
ISA_FLAGS_generic :=
ISA_FLAGS_avx2    := -mavx2 -mfma -mf16c
ifeq ($(shell $(CC) -dumpmachine | cut -d- -f1),x86_64)
ISA_NAMES += avx2
endif
# Kernels are arithmetic in loops: -O3 unrolls them. Vectors wider than the set's registers are
# split by the compiler, and never passed outside a file: the ABI note does not matter.
ISA_OPT   := $(if $(filter -O2,$(OPT)),-O3,) -Wno-psabi
ISA_OBJ   := $(foreach isa,$(ISA_NAMES),$(ISA_SRC:src/%.c=$(BUILD)/obj/%.$(isa).o))

define isa_rule
$(BUILD)/obj/engine/cpu/kernels/%.$(1).o: src/engine/cpu/kernels/%.c
	@mkdir -p $$(@D)
	@echo '  CC  $$< ($(1))'
	@$$(CC) $$(CPPFLAGS) $$(CFLAGS) $$(ISA_OPT) $$(ISA_FLAGS_$(1)) -DISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,$(ISA_NAMES),$(eval $(call isa_rule,$(isa))))
