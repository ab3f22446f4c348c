# Compiler and flags. VERSION comes from the tree, never from the network.
CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
JOBS     ?= $(shell nproc)
VERSION  := $(shell cat VERSION)
WARN     := -Wall -Wextra -Wshadow -Wconversion -Werror -Wvla -Wstrict-prototypes -Wmissing-prototypes \
            -Wframe-larger-than=131072
CPPFLAGS += -Isrc -Iinclude -D_GNU_SOURCE -DBUD_VERSION='"$(VERSION)"'
OPT      ?= -O2
CFLAGS   += -std=gnu17 $(OPT) -g -fno-omit-frame-pointer -fstack-protector-strong -ffp-contract=off $(WARN) $(SAN)
LDFLAGS  += -Wl,-z,relro,-z,now $(SAN)
TEST_CFLAGS := -Wno-missing-prototypes -Wno-frame-larger-than
