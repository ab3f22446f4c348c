# Sanitizer, fuzz and coverage builds, each in its own folder beside build/.
ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -DBUD_DEBUG
TSAN_FLAGS := -fsanitize=thread -DBUD_DEBUG

asan: ## unit and module tests under ASan and UBSan
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/asan OPT=-O1 SAN="$(ASAN_FLAGS)" unit
tsan: ## threaded modules under TSan
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/tsan OPT=-O1 SAN="$(TSAN_FLAGS)" unit-build
	@tools/run_unit build/tsan/tests $(TSAN_TESTS)
.PHONY: asan tsan
