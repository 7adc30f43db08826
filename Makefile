# Builds and installs the extension (PGXS), and names the project's other tasks: make help.

MODULE_big = payonce
EXTENSION = payonce
DATA = payonce--1.0.sql
PGFILEDESC = "payonce - an order is paid once"

# A build for test/isolation alone: without the advisory lock, to show that the rows arbitrate.
ifdef PAYONCE_TEST_WITHOUT_LOCK
PG_CPPFLAGS += -DPAYONCE_TEST_WITHOUT_LOCK
endif

# A build for test/tap_faults alone: with the fault points of src/pg/fault_point.h.
ifdef PAYONCE_TEST_FAULTS
PG_CPPFLAGS += -DPAYONCE_TEST_FAULTS
endif

# A build for scripts/sanitize alone: the server must have loaded the library before.
ifdef PAYONCE_SANITIZE
PG_CPPFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
	-D_GLIBCXX_ASSERTIONS
SHLIB_LINK += -fsanitize=address,undefined
endif

SOURCES = $(wildcard src/core/*.cpp src/core/gateways/*.cpp src/net/*.cpp src/pg/*.cpp)
OBJS = $(SOURCES:.cpp=.o)

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --load-extension=payonce --encoding=UTF8 --no-locale
ISOLATION = $(patsubst test/isolation/specs/%.spec,%,$(sort $(wildcard test/isolation/specs/*.spec)))
# It makes what the others share, so it is run first, whichever of them are asked for.
ifneq ($(strip $(ISOLATION)),)
override ISOLATION := prepare $(filter-out prepare,$(ISOLATION))
endif
# Without the lock other steps wait, and other errors come: the same specs, other expected output.
ISOLATION_OPTS = --load-extension=payonce \
	--inputdir=test/isolation$(if $(PAYONCE_TEST_WITHOUT_LOCK),/without_lock)

EXTRA_CLEAN = build compile_commands.json

PG_CONFIG ?= pg_config
override with_llvm := no

STRICT_WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wcast-qual -Wnon-virtual-dtor \
	-Wnull-dereference -Wduplicated-cond -Werror
ifdef PAYONCE_SANITIZE
# GCC's flow analysis mistakes the sanitizers' own checks for null dereferences.
STRICT_WARNINGS += -Wno-null-dereference
endif
# The server's headers count as the system's: our warnings are about our code.
PG_CXXFLAGS = -std=c++20 -isystem $(shell $(PG_CONFIG) --includedir-server) -Isrc \
	$(STRICT_WARNINGS) -MMD -MP
SHLIB_LINK += -lcurl -lcrypto -lstdc++ -Wl,--version-script=src/pg/exports.map

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
override with_llvm := no

payonce.so: src/pg/exports.map

-include $(OBJS:.o=.d)
clean: clean-dependencies
clean-dependencies:
	rm -f $(OBJS:.o=.d)

include scripts/tasks.mk
