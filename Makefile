# SPDX-License-Identifier: Apache-2.0
# One non-recursive GNU Makefile.  `make help` lists the targets.
#
# Knobs:  SAN=1 (address,undefined) SAN=thread  DEVELOPER=1 (-Werror)  V=1
#         CUDA=0 MPI=0 ONEDNN=0 PARQUET=0 (leave an optional part out)
#         CC  CFLAGS  CXX  PYTHON (whose pyarrow reads Parquet)  prefix  DESTDIR

VERSION := 0.1.0

prefix  ?= /usr/local
bindir  ?= $(prefix)/bin
libdir  ?= $(prefix)/lib
mandir  ?= $(prefix)/share/man
compdir ?= $(prefix)/share/bash-completion/completions
datadir ?= $(prefix)/share/prx
DESTDIR ?=

SAN       ?=
DEVELOPER ?= 0
V         ?= 0
CUDA      ?= 1
MPI       ?= 1
ONEDNN    ?= 1
PARQUET   ?= 1
PYTHON    ?=
GOLDEN    ?= tests/golden

ifeq ($(origin CC),default)
CC := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif

VARIANT := $(if $(filter-out 0,$(SAN)),san-$(if $(filter 1,$(SAN)),address,$(SAN)),release)
B := build/$(VARIANT)
BIN := $(if $(filter release,$(VARIANT)),build/bin,$(B)/bin)

# What this machine has.  Probed once; `make clean` or a changed knob probes again.
PROBE := $(B)/probe.mk
ifneq ($(filter-out help clean deps demo lint uninstall,$(or $(MAKECMDGOALS),all)),)
include $(PROBE)
endif

ifneq ($(V),1)
Q := @
say = @printf '  %-7s %s\n' '$1' '$2';
endif

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wpointer-arith -Wstrict-prototypes \
        -Wmissing-prototypes -Wold-style-definition -Wwrite-strings -Wundef \
        -Wvla -Wformat=2 -Wdate-time -Wno-unknown-pragmas
ifneq ($(filter 1,$(DEVELOPER))$(filter true,$(CI)),)
WARN += -Werror
endif

comma := ,
ifneq ($(filter-out 0,$(SAN)),)
SANFLAGS := -fsanitize=$(if $(filter 1,$(SAN)),address$(comma)undefined -fno-sanitize-recover=undefined,$(SAN)) -fno-omit-frame-pointer
endif

CFLAGS    ?= -O2 -g
PRX_CPPFLAGS = -I. -D_XOPEN_SOURCE=700 -D_DEFAULT_SOURCE -D_FILE_OFFSET_BITS=64 $(PROBE_CPPFLAGS) $(CPPFLAGS)
PRX_CFLAGS = -std=c11 -pthread $(WARN) $(CFLAGS) $(SANFLAGS) -fno-math-errno $(PROBE_CFLAGS)
PRX_CXXFLAGS = -fPIC $(PROBE_CXXFLAGS) -pthread -Wall -Wextra $(filter -Werror,$(WARN)) $(CFLAGS) $(SANFLAGS)
PRX_LDFLAGS = -pthread $(PROBE_CFLAGS) -Wl,--as-needed $(SANFLAGS) $(LDFLAGS) $(PROBE_LDFLAGS)
LIBS = $(PROBE_LIBS) -lm

# --- files -------------------------------------------------------------------
ARCH := $(shell $(CC) -dumpmachine | cut -d- -f1)
SIMD_LEVELS := $(if $(filter x86_64,$(ARCH)),v1 v3 v4,v1)
SIMD_FLAGS_v1 :=
SIMD_FLAGS_v3 := -mavx2 -mfma -mbmi2 -mf16c
SIMD_FLAGS_v4 := $(SIMD_FLAGS_v3) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd -mprefer-vector-width=512

DATA_SRC  := $(sort $(wildcard libdata/*/*.c))
TRAIN_SRC := $(sort $(wildcard train/*/*.c))
TOOL_SRC  := $(sort $(filter-out $(wildcard tools/prx-*.c),$(wildcard tools/*.c)))
PROG_SRC  := $(sort $(wildcard tools/prx-*.c))
GOLD_SRC  := $(sort $(wildcard tests/golden/*.c))
TLIB_SRC  := $(sort $(wildcard tests/lib/*.c))
TEST_SRC  := $(sort $(wildcard tests/unit/test_*.c tests/op/test_*.c))
BENCH_SRC := $(sort $(wildcard tests/bench/*.c))

objs = $(patsubst %.c,$(B)/%.o,$(filter-out %_simd.c,$1)) \
       $(foreach l,$(SIMD_LEVELS),$(patsubst %.c,$(B)/%.$l.o,$(filter %_simd.c,$1)))

# C++ only where a library speaks nothing else: Arrow's, for Parquet, which is loaded
# when a list of that kind is read.
CXX_SRC   := $(if $(filter 1,$(PROBE_PARQUET)),$(sort $(wildcard libdata/*/*.cc)))

DATA_OBJ  := $(call objs,$(DATA_SRC))
TRAIN_OBJ := $(call objs,$(TRAIN_SRC))
TOOL_OBJ  := $(call objs,$(TOOL_SRC))
TLIB_OBJ  := $(call objs,$(TLIB_SRC))
LIBS_A    := $(B)/libprxtrain.a $(B)/libprxdata.a
TOOL_A    := $(B)/libprxtools.a
TEST_A    := $(B)/libprxtest.a
PROGS     := $(patsubst tools/%.c,$(BIN)/%,$(PROG_SRC))
PARQUET_SO := $(if $(CXX_SRC),$(BIN)/libprx-parquet.so)
TESTS     := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRC))
BENCHES   := $(patsubst tests/%.c,$(B)/tests/%,$(BENCH_SRC))
# Sanitizers want to be loaded first, so nothing is preloaded before them.
FAULT     := $(if $(filter release,$(VARIANT)),$(B)/libprxfault.so)
GOLD      := $(if $(GOLD_SRC),$(B)/tests/prx-golden)

.PHONY: all
all: $(PROGS) $(PARQUET_SO) ## build every program into build/bin (the default)

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# The probe's answer depends on the knobs; a change of either rebuilds.
NUMBER_SIGN := \#
KNOBS := CC=$(CC) CUDA=$(CUDA) MPI=$(MPI) ONEDNN=$(ONEDNN) CXX=$(CXX) PARQUET=$(PARQUET) PYTHON=$(PYTHON)
$(PROBE): mk/probe.sh $(shell [ "$$(head -n1 $(PROBE) 2>/dev/null)" = "$(NUMBER_SIGN) $(KNOBS)" ] || echo FORCE)
	@mkdir -p $(@D)
	$(call say,PROBE,$@)CC='$(CC)' CXX='$(CXX)' CUDA=$(CUDA) MPI=$(MPI) ONEDNN=$(ONEDNN) PARQUET=$(PARQUET) PYTHON='$(PYTHON)' KNOBS='$(KNOBS)' sh mk/probe.sh > $@.tmp && mv $@.tmp $@
# Phony, for .SECONDARY would let a file that is not there pass for one that is.
.PHONY: FORCE
FORCE:

$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(CC) $(PRX_CPPFLAGS) $(PRX_CFLAGS) $(PRX_CXXFLAGS) $(LIBS)' | cmp -s - $@ || printf '%s\n' '$(CC) $(PRX_CPPFLAGS) $(PRX_CFLAGS) $(PRX_CXXFLAGS) $(LIBS)' > $@

# Ops that are specified by plain loops are compiled without contraction.
$(B)/train/ref/%.o: EXTRA = -ffp-contract=off
$(B)/train/run/recipe_find.o: EXTRA = -DPRX_DATADIR='"$(datadir)"'
$(B)/tools/tool.o: EXTRA = -DPRX_VERSION='"$(VERSION)"' -DPRX_CFLAGS='"$(strip $(CFLAGS) $(SANFLAGS))"' -DPRX_CC='"$(CC)"'

define simd_rule
$(B)/%_simd.$1.o: %_simd.c $(B)/flags
	@mkdir -p $$(@D)
	$$(call say,CC,$$< [$1])$$(CC) $$(PRX_CPPFLAGS) $$(PRX_CFLAGS) -O3 -fopenmp-simd -fno-trapping-math -ffp-contract=fast $$(SIMD_FLAGS_$1) -DPRX_SIMD_LEVEL=$1 -MMD -MP -c -o $$@ $$<
endef
$(foreach l,$(SIMD_LEVELS),$(eval $(call simd_rule,$l)))

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(PRX_CPPFLAGS) $(PRX_CFLAGS) $(EXTRA) -MMD -MP -c -o $@ $<

$(B)/%.o: %.cc $(B)/flags
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) $(PRX_CPPFLAGS) $(PRX_CXXFLAGS) -MMD -MP -c -o $@ $<

$(B)/libprxdata.a: $(DATA_OBJ)
$(B)/libprxtrain.a: $(TRAIN_OBJ)
$(TOOL_A): $(TOOL_OBJ)
$(TEST_A): $(TLIB_OBJ)
$(B)/%.a:
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(BIN)/libprx-parquet.so: $(CXX_SRC:%.cc=$(B)/%.o)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CXX) -shared $(PRX_LDFLAGS) -o $@ $^ $(PROBE_PARQUET_LIBS) -ljansson

$(BIN)/prx-%: $(B)/tools/prx-%.o $(TOOL_A) $(LIBS_A)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(PRX_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/tests/prx-golden: $(call objs,$(GOLD_SRC)) $(TEST_A) $(LIBS_A)
	$(call say,LD,$@)$(CC) $(PRX_LDFLAGS) -o $@ $^ $(LIBS)

$(TESTS): $(B)/tests/%: $(B)/tests/%.o $(TEST_A) $(LIBS_A)
	$(call say,LD,$@)$(CC) $(PRX_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

$(BENCHES): $(B)/tests/%: $(B)/tests/%.o $(TEST_A) $(LIBS_A)
	$(call say,LD,$@)$(CC) $(PRX_LDFLAGS) -o $@ $^ $(LIBS)

$(B)/libprxfault.so: tests/fault/shim.c $(B)/flags
	$(call say,LD,$@)$(CC) $(PRX_CPPFLAGS) $(PRX_CFLAGS) -fPIC -shared -o $@ $< -ldl

.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# --- tests -------------------------------------------------------------------
.PHONY: check golden check-peers bench lint
check: all $(TESTS) $(GOLD) $(FAULT) ## run the whole test suite; ends with "N passed, N failed"
	@BIN=$(BIN) B=$(B) SAN='$(SAN)' sh tests/run.sh

golden: $(GOLD) ## run every golden case below GOLDEN=DIR
	@$(GOLD) $(GOLDEN)

check-peers: all $(GOLD) ## let Python's readers check what we write (installs them into build/venv)
	@BIN=$(BIN) B=$(B) sh tests/peers/run.sh

bench: all $(BENCHES) ## time the tools against what users run today, as ratios
	@BIN=$(BIN) B=$(B) sh tests/bench/run.sh

lint: ## formatting, include arrows, banned calls, man pages, shell scripts
	@sh mk/lint.sh

# --- the two commands a newcomer types, and the rest --------------------------
.PHONY: deps demo install uninstall clean help
deps: ## install what is missing (Debian, Ubuntu) or say what to install
	@sh mk/deps.sh

demo: ## install, build, shard, encode, train on real photographs, show samples
	@sh mk/deps.sh
	@$(MAKE) --no-print-directory all
	@BIN=$(BIN) sh manifests/demo/run.sh

install: all ## install programs, man pages and bash completion below DESTDIR/prefix
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man5 $(DESTDIR)$(mandir)/man7 $(DESTDIR)$(compdir) $(DESTDIR)$(datadir)/recipes
	install -m 755 $(PROGS) $(DESTDIR)$(bindir)
	$(if $(PARQUET_SO),install -d $(DESTDIR)$(libdir)/prx && install -m 644 $(PARQUET_SO) $(DESTDIR)$(libdir)/prx)
	install -m 644 man/*.1 $(DESTDIR)$(mandir)/man1
	install -m 644 man/*.5 $(DESTDIR)$(mandir)/man5
	install -m 644 man/*.7 $(DESTDIR)$(mandir)/man7
	install -m 644 manifests/recipes/*.yaml $(DESTDIR)$(datadir)/recipes
	install -m 644 mk/completion.bash $(DESTDIR)$(compdir)/prx
	for p in $(notdir $(PROGS)); do ln -sf prx $(DESTDIR)$(compdir)/$$p; done

uninstall: ## remove what install put there
	cd $(DESTDIR)$(bindir) && rm -f $(notdir $(PROGS))
	rm -rf $(DESTDIR)$(libdir)/prx
	cd $(DESTDIR)$(mandir) && rm -f $(addprefix man1/,$(notdir $(wildcard man/*.1))) $(addprefix man5/,$(notdir $(wildcard man/*.5))) $(addprefix man7/,$(notdir $(wildcard man/*.7)))
	cd $(DESTDIR)$(compdir) && rm -f prx $(notdir $(PROGS))
	rm -rf $(DESTDIR)$(datadir)

clean: ## remove everything that was built
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  knobs: SAN=1 SAN=thread DEVELOPER=1 V=1 CUDA=0 MPI=0 ONEDNN=0 PARQUET=0 GOLDEN=DIR"
