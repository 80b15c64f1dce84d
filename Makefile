# Builds the extension with PGXS; tests: make installcheck (regress, isolation, TAP).
#   make FAILPOINTS=yes   adds the failpoints and functions that tests use
#   make WERROR=yes       warnings are errors, as in CI
#   make compile_commands.json   tells editors how each file is compiled
#   make WITH_TLS=no      without TLS for Redis; the default is yes where pkg-config finds openssl
#   make WITH_REDIS=no    without the Redis sink; the default is yes where pkg-config finds hiredis
EXTENSION      = profile_stream
EXTVERSION     = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(EXTENSION).control)
MODULE_big     = $(EXTENSION)
WITH_REDIS    ?= $(if $(shell pkg-config --exists hiredis && echo found),yes,no)
WITH_TLS      ?= $(if $(shell pkg-config --exists openssl && echo found),yes,no)
# without hiredis the list of sinks has no function that makes the Redis sink
OBJS           = $(filter-out $(if $(filter yes,$(WITH_REDIS)),,%/redis_client.o %/redis_errors.o %/redis_sink.o %/redis_socket.o %/redis_tls.o), \
	$(patsubst %.c,%.o,$(sort $(filter-out $(if $(filter yes,$(FAILPOINTS)),,src/testing/%),$(wildcard src/*.c src/*/*.c)))))
# tests upgrade from the scripts of all releases
DATA           = $(wildcard sql/*--*--*.sql) $(if $(filter yes,$(FAILPOINTS)),$(wildcard test/upgrade/$(EXTENSION)--*.sql))
DATA_built     = sql/$(EXTENSION)--$(EXTVERSION).sql
# these need what a release does not have
REGRESS        = $(filter-out $(if $(filter yes,$(FAILPOINTS)),,fuzz event_id_filter segments upgrade),$(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql))))
# a database of its own encoding and locale, whatever those of the server are
DATABASE_OPTS  = --encoding=UTF8 --no-locale --load-extension=$(EXTENSION)
REGRESS_OPTS   = --inputdir=test $(DATABASE_OPTS)
ISOLATION      = $(filter-out $(if $(filter yes,$(FAILPOINTS)),,sealing),$(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec))))
ISOLATION_OPTS = --inputdir=test --outputdir=. $(DATABASE_OPTS)
TAP_TESTS      = 1
PROVE_TESTS   ?= test/t/*.pl
TOOLS          = $(patsubst %.c,%,$(wildcard test/tools/*.c))
EXTRA_CLEAN    = $(DATA_built) $(TOOLS) src/*.d src/*/*.d compile_commands.json

# The compiler writes beside each object which headers it read. Only for objects: clang would write the same file for bitcode.
PG_CFLAGS      = -MMD -MP
PG_CPPFLAGS    = -I$(srcdir)/src -DPS_VERSION='"$(EXTVERSION)"' -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare
ifeq ($(FAILPOINTS),yes)
PG_CPPFLAGS   += -DPS_FAILPOINTS
endif
ifeq ($(WERROR),yes)
PG_CPPFLAGS   += -Werror
endif
# its header is none of ours, and in some versions the compiler would warn of it
RDKAFKA_CFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags rdkafka))
PG_CPPFLAGS   += $(RDKAFKA_CFLAGS)
SHLIB_LINK     = $(shell pkg-config --libs rdkafka) -lpthread
ifeq ($(WITH_REDIS),yes)
PG_CPPFLAGS   += $(shell pkg-config --cflags hiredis) -DPS_HIREDIS='"$(shell pkg-config --modversion hiredis)"'
SHLIB_LINK    += $(shell pkg-config --libs hiredis)
ifeq ($(WITH_TLS),yes)
PG_CPPFLAGS   += $(shell pkg-config --cflags openssl) -DPS_TLS
SHLIB_LINK    += $(shell pkg-config --libs openssl)
endif
endif

PG_CONFIG     ?= pg_config
# the PG_CONFIG of libpq's package names a file that only the server headers have
PGXS          := $(wildcard $(shell $(PG_CONFIG) --pgxs))
ifeq ($(PGXS),)
$(error $(PG_CONFIG) finds no server headers: install postgresql-server-dev-15 (Debian 12), -17 (Debian 13) or postgresql-server-devel (Fedora), \
	or name another with PG_CONFIG=. scripts/install-deps.sh --no-kafka installs all that is needed on Debian and Ubuntu)
endif

all: $(DATA_built)
include $(PGXS)

PROVE_FLAGS   += -I $(srcdir)/test/perl

$(OBJS): Makefile $(EXTENSION).control | librdkafka
librdkafka:
	@pkg-config --exists 'rdkafka >= 2.0.2' || { echo 'librdkafka 2.0.2 or later is missing: install librdkafka-dev and pkg-config (Debian, Ubuntu), or librdkafka-devel and pkgconf (Fedora)' >&2; exit 1; }
$(OBJS:.o=.bc): %.bc: %.o
-include $(OBJS:.o=.d)

$(DATA_built): sql/$(EXTENSION).sql
	cp $< $@

tools: $(TOOLS)
test/tools/%: test/tools/%.c test/tools/client.h
	$(CC) -O2 -Wall -Wextra $(if $(filter yes,$(WERROR)),-Werror) -o $@ $< $(RDKAFKA_CFLAGS) $(shell pkg-config --libs rdkafka)

# under sanitizers, outside of the server; the first of two definitions counts, which is the tool's
CORE_DECODER   = $(addprefix src/core/,event.c path.c json.c timestamp.c text.c event_rules.c \
	text_set.c keyed_hash.c redact.c offset_set.c) $(wildcard src/core/format*.c) src/message.c src/testing/fuzz.c src/testing/fuzz_parsers.c
test/tools/fuzz_event: test/tools/fuzz_event.c $(CORE_DECODER) $(wildcard src/*.h src/core/*.h src/testing/*.h)
	$(CC) -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all $(PG_CPPFLAGS) -I$(shell $(PG_CONFIG) --includedir-server) \
		-o $@ $< $(CORE_DECODER) -Wl,--allow-multiple-definition \
		-L$(shell $(PG_CONFIG) --pkglibdir) -L$(shell $(PG_CONFIG) --libdir) -lpgcommon -lpgport -lm

# for editors and clang-tidy: how each file is compiled
compile_commands.json: Makefile $(OBJS:.o=.c)
	scripts/compile-commands.py $(OBJS:.o=.c) -- $(CC) $(CFLAGS) $(CPPFLAGS) >$@

.PHONY: librdkafka tools
