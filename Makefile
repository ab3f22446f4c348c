# Bud Runtime. `make` lists the goals; `make run` and `make test` are the two that a newcomer needs.
# One non-recursive build: mk/flags.mk (compiler), mk/deps.mk (Debian's libraries), mk/isa.mk
# (kernels per instruction set), mk/sanitize.mk (asan, tsan, fuzz, coverage).
.DEFAULT_GOAL := help
BUILD ?= build

include mk/flags.mk mk/deps.mk mk/isa.mk

SRC      := $(sort $(wildcard src/*/*.c src/engine/*/*.c))
LIB_OBJ  := $(SRC:src/%.c=$(BUILD)/obj/%.o) $(ISA_OBJ) $(DEPS_OBJ)
MAIN_OBJ := $(BUILD)/obj/cli/main.o
LIB      := $(BUILD)/libbud.a
UNIT_SRC := $(sort $(wildcard tests/00_unit/*/test_*.c tests/10_module/*/test_*.c))
UNIT_BIN := $(patsubst %.c,$(BUILD)/tests/%,$(notdir $(UNIT_SRC)))
vpath test_%.c $(sort $(dir $(UNIT_SRC)))

help: ## list the goals
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing (Debian packages)
	@tools/setup
build: $(BUILD)/bud ## compile build/bud
run: setup ## set up, build, start the runtime with the bundled model, show a first answer
	@$(MAKE) --no-print-directory -s build
	@tools/run
test: setup ## set up, build and run every test
	@$(MAKE) --no-print-directory -j$(JOBS) build unit-build
	@tools/test
unit-build: $(UNIT_BIN)
unit: unit-build ## unit and module tests only
	@tools/run_unit $(BUILD)/tests
bench-kernels: $(BUILD)/bench/kernels ## compile build/bench/kernels (bench/README.md)
test-peers: build ## other engines behind the gateway (built from PyPI on the first use; minutes)
	@tests/60_peers/run
soak: $(BUILD)/tests/test_soak ## 10,000 mixed requests with cancels on a tiny model
	@BUD_SOAK=10000 $(BUILD)/tests/test_soak
tidy: ## house rules that a script can check
	@python3 tools/tidy.py
format: ## format the C sources in place
	@clang-format-14 -i $(shell git ls-files '*.c' '*.h')
clean: ## remove build products
	rm -rf build

$(BUILD)/obj/%.o: src/%.c
	@mkdir -p $(@D)
	@echo '  CC  $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(LIB): $(filter-out $(MAIN_OBJ),$(LIB_OBJ))
	@rm -f $@
	@$(AR) rcs $@ $^

$(BUILD)/bud: $(MAIN_OBJ) $(LIB)
	@echo '  LD  $@'
	@$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

# A test may include the .c it tests; the library then provides the rest.
$(BUILD)/tests/%: %.c $(LIB)
	@mkdir -p $(@D)
	@echo '  CC  $<'
	@$(CC) $(CPPFLAGS) -Itests $(CFLAGS) $(TEST_CFLAGS) $(if $(filter -O2,$(OPT)),,-Wno-error) -MMD -MP $(LDFLAGS) $< $(LIB) $(LDLIBS) $(TEST_LIBS) -o $@

# Programs of the benches, on demand (bench/README.md).
$(BUILD)/bench/%: bench/%.c $(LIB)
	@mkdir -p $(@D)
	@echo '  CC  $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) $< $(LIB) $(LDLIBS) -o $@
bench-attention: $(BUILD)/bench/attention ## measure attention alone against the memory stream
	@$<

GATEWAY_BENCH := $(addprefix $(BUILD)/bench/gateway/,upstream body)
bench-gateway: build $(GATEWAY_BENCH) ## the front door beside nginx and HAProxy
	@bench/gateway/run
bench-gateway-long: build $(GATEWAY_BENCH) ## the same, and its memory after a million requests
	@bench/gateway/run --long

include mk/sanitize.mk
-include $(LIB_OBJ:.o=.d) $(UNIT_BIN:=.d)
.PHONY: help setup build run test test-peers unit-build unit soak bench-kernels bench-attention bench-gateway bench-gateway-long tidy format clean
