# Sanitizer, fuzz, analyzer and coverage builds, each in its own folder below build/.
# gcc's flow-based warnings misfire in instrumented code; the plain build has them all.
SAN_WARN   := -Wno-format-truncation -Wno-maybe-uninitialized -Wno-stringop-overflow
ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -DBUD_DEBUG $(SAN_WARN)
TSAN_FLAGS := -fsanitize=thread -DBUD_DEBUG -Wno-tsan $(SAN_WARN)
COV_FLAGS  := --coverage
FUZZ_SRC   := $(sort $(wildcard fuzz/fuzz_*.c))
FUZZ_BIN   := $(patsubst fuzz/%.c,$(BUILD)/bin/%,$(FUZZ_SRC))
# Binaries that start threads; the others would only cost time.
TSAN_TESTS ?= $(shell cat tests/threaded.txt 2>/dev/null)

asan: ## unit and module tests under ASan and UBSan
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/asan OPT=-O1 SAN="$(ASAN_FLAGS)" unit
tsan: ## threaded modules under TSan
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/tsan OPT=-O1 SAN="$(TSAN_FLAGS)" $(TSAN_TESTS:%=build/tsan/tests/%)
	@tools/run_unit build/tsan/tests $(TSAN_TESTS)
fuzz-build:
	@$(MAKE) --no-print-directory BUILD=build/fuzz CC=clang-14 OPT=-O1 ISA_SANITIZED= \
	  SAN="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -DBUD_DEBUG" fuzz-bins
fuzz-bins: $(FUZZ_BIN)
$(BUILD)/bin/%: fuzz/%.c $(LIB)
	@mkdir -p $(@D)
	@echo '  CC  $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(TEST_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) $< $(LIB) $(LDLIBS) -o $@
fuzz: ## every fuzz target, two minutes shared
	@tools/fuzz 120
analyze: ## gcc's static analyzer over the sources
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/analyze SAN=-fanalyzer build/analyze/libbud.a
coverage: ## line coverage of the unit and module tests
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/cov OPT=-O0 SAN="$(COV_FLAGS)" unit
	@tools/coverage build/cov
check-long: ## a full minute of fuzzing per target, analyzer, coverage
	@tools/setup --check
	@tools/fuzz --each 60
	@$(MAKE) --no-print-directory analyze coverage
.PHONY: asan tsan fuzz fuzz-build fuzz-bins analyze coverage check-long
