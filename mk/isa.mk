# Kernels: files of src/engine/cpu/kernels are compiled once per instruction set, with its name in
# the macro ISA. The set is chosen at run time (src/engine/cpu/kernels.c). A set compiles the files
# that gain by it (ISA_FILES_x) and borrows the other tables from a lesser set.
ISA_SRC   := $(sort $(filter-out %_avx512.c %/panel_bf16.c,$(wildcard src/engine/cpu/kernels/*.c)))
ISA_512   := $(sort $(wildcard src/engine/cpu/kernels/*_avx512.c))
ISA_NAMES := generic
ISA_FLAGS_generic  :=
ISA_FILES_generic  := $(ISA_SRC)
ISA_FLAGS_avx2     := -mavx2 -mfma -mf16c
ISA_FILES_avx2     := $(ISA_SRC)
ISA_FLAGS_avx2vnni := $(ISA_FLAGS_avx2) -mavxvnni
ISA_FILES_avx2vnni := $(filter %/panel_32.c %/panel_k.c,$(ISA_SRC))
ISA_FLAGS_avx512   := $(ISA_FLAGS_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
ISA_FILES_avx512   := $(ISA_512) $(filter %/panel_float.c %/attend.c,$(ISA_SRC))
ISA_FLAGS_avx512bf16 := $(ISA_FLAGS_avx512) -mavx512bf16
ISA_FILES_avx512bf16 := src/engine/cpu/kernels/panel_bf16.c
ifeq ($(shell $(CC) -dumpmachine | cut -d- -f1),x86_64)
ISA_NAMES += avx2 avx2vnni avx512 avx512bf16
endif
# Kernels are arithmetic in loops: -O3 unrolls them. Vectors wider than the set's registers are
# split by the compiler, and never passed outside a file: the ABI note does not matter.
# Instrumented loops cannot be unrolled as asked, which gcc says without a name to switch off.
ISA_OPT   := $(if $(filter -O2,$(OPT)),-O3,-Wno-error) -Wno-psabi
ISA_OBJ   := $(foreach isa,$(ISA_NAMES),$(ISA_FILES_$(isa):src/%.c=$(BUILD)/obj/%.$(isa).o))

# Sets that the sanitizers instrument: doing so to all of them takes minutes of compiling each.
ISA_SANITIZED ?= generic avx2

define isa_rule
$(BUILD)/obj/engine/cpu/kernels/%.$(1).o: src/engine/cpu/kernels/%.c
	@mkdir -p $$(@D)
	@echo '  CC  $$< ($(1))'
	@$$(CC) $$(CPPFLAGS) $$(if $$(filter $(1),$$(ISA_SANITIZED)),$$(CFLAGS),$$(filter-out $$(SAN),$$(CFLAGS))) $$(ISA_OPT) $$(ISA_FLAGS_$(1)) -DISA=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,$(ISA_NAMES),$(eval $(call isa_rule,$(isa))))
