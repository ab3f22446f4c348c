# Debian's libraries. llhttp ships as C sources (package node-llhttp) and is compiled here, in its
# strict mode, with its own warnings off.
LDLIBS    += -luv -lnghttp2 -lssl -lcrypto -lsqlite3 -lhiredis -lutf8proc -lxxhash -lfyaml -lcurl -lpthread -lm
TEST_LIBS := -lcmocka -ljansson
LLHTTP    := /usr/share/llhttp
CPPFLAGS  += -isystem /usr/share/include/llhttp -isystem /usr/share/include
DEPS_OBJ  := $(BUILD)/obj/llhttp/api.o $(BUILD)/obj/llhttp/http.o $(BUILD)/obj/llhttp/llhttp.o

$(BUILD)/obj/llhttp/%.o: $(LLHTTP)/%.c
	@mkdir -p $(@D)
	@echo '  CC  $<'
	@$(CC) $(CPPFLAGS) -std=gnu17 -O2 -g -w -DLLHTTP_STRICT_MODE=1 $(SAN) -c $< -o $@
