# Who runs a recipe, where and with what. Nothing here knows what a study is made of.
# Names in capitals are words that people may give; names in small letters are the project's own.
ifneq ($(filter 3.% 4.0 4.0.% 4.1 4.1.%,$(MAKE_VERSION)),)
$(error basins needs GNU make 4.2 or newer; this is $(MAKE_VERSION))
endif
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
# One word for the shell, whatever is in it.
quoted = '$(subst ','\'',$1)'

# What was typed is taken as it stands: its text ($(value …)) becomes its value. Else make would
# take IMAGENET='/data/my $x' for "/data/my " and the value of x, and run a $(shell …) in it.
typed := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
$(foreach v,$(typed),$(eval override $v := $$(value $v)))

# PYTHON, typed or in the environment, is the Python of an environment that has the requirements (as
# in the container). Without it, .venv is made here: what `ready` names comes before any recipe.
ifeq ($(PYTHON),)
override PYTHON := .venv/bin/python
interpreter := .venv/bin/python
ready := .venv/ready
ready_tests := .venv/ready-tests
else
interpreter = $(call quoted,$(PYTHON))
ready :=
ready_tests :=
endif
# What needs no requirements runs before there is a .venv too.
python := $(if $(ready),$(or $(wildcard .venv/bin/python),python3),$(interpreter))

# Exits with 1, and a line, where Python is too old.
old := import sys; old = sys.version_info < (3, 11); old and print("basins needs Python 3.11 or newer"); sys.exit(old)

# A process uses THREADS threads: results' last bits depend on their number, and two processes of
# two threads each on two cores take three times as long as of one.
export OMP_NUM_THREADS = $(THREADS)
export MKL_NUM_THREADS = $(THREADS)
# glibc keeps what a step frees: taking it anew at every step cost 13 % of training at batch 32.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 68719476736
# What is kept for the next process of a user: kernels compiled for the GPU, a list of fonts.
cache := $(CURDIR)/artifacts/cache-$(shell id -u)
export TORCHINDUCTOR_CACHE_DIR ?= $(cache)/inductor
export MPLCONFIGDIR ?= $(cache)/matplotlib
# In a read-only container nothing but artifacts can be written.
ifeq ($(TMPDIR)$(shell test -w /tmp || echo no),no)
export TMPDIR := $(shell mkdir -p $(cache) 2> /dev/null && echo $(cache))
endif

# Scripts find their modules in this folder, also where PYTHONSAFEPATH is set for other programs.
export PYTHONSAFEPATH :=

# on: what a command begins with: the GPU it gets, who launches it, Python.
# run: common/making/recipe.py, which runs a command and says what it is; show: and what it prints;
# together: several of them in forks of one process.
verbose := $(filter 1 yes,$(V))
unexport SHOW MAKE_PROCESS
on = $(if $(GPUS),bash common/gpu.sh $(GPUS)) $(LAUNCH) $(interpreter)
together = $(if $(verbose),SHOW=1 ,@)$(interpreter) -m common.making.together
run = $(if $(verbose),SHOW=1 ,@)$(python) -m common.making.recipe
show = $(if $(verbose),,@)SHOW=1 $(python) -m common.making.recipe

# When make starts, common/graph.py writes the graph and prints its name, and make reads it; under
# -n and -q it is a temporary file. `exec`: its parent is make, whose number locks the folder.
ifneq ($(filter-out setup lint quick test test-full bench container,$(or $(MAKECMDGOALS),help)),)
capitals := A% B% C% D% E% F% G% H% I% J% K% L% M% N% O% P% Q% R% S% T% U% V% W% X% Y% Z%
assigned := $(foreach v,$(filter $(capitals),$(.VARIABLES)),$(if $(filter file,$(origin $v)),$v))
# 'METHODS=adam swa' 'SEEDS=0 1' …; PYTHON only where people gave it.
values := $(foreach v,$(assigned) $(filter-out PYTHON,$(typed)),$(call quoted,$v=$($v)))
values += $(call quoted,PYTHON=$(if $(ready),,$(PYTHON)))
given := $(call quoted,$(MAKEFLAGS)) $(call quoted,$(MAKECMDGOALS)) $(call quoted,$(typed)) $(values)
# Before 4.4 make exports nothing to $(shell …).
temporary := $(if $(TMPDIR),env TMPDIR=$(call quoted,$(TMPDIR)))
answer := $(shell unset PYTHONSAFEPATH; command -v $(python) > /dev/null || exit 127; \
  $(python) -c '$(old)' && exec $(temporary) $(python) -m common.graph $(given))
ifneq ($(.SHELLSTATUS),0)
missing := $(if $(filter 126 127,$(.SHELLSTATUS)),there is no Python at $(python))
$(error $(or $(answer),$(missing),common/graph.py failed))
endif
-include $(answer)
$(if $(filter %.temporary.mk,$(answer)),$(shell rm $(answer)))
endif

# Two profiles started at once wait for each other here, and find it done.
.venv/ready: requirements.txt
	exec 9< $<; flock 9 2> /dev/null || true; test ! $@ -nt $< || exit 0; \
	python3 -c '$(old)'; \
	python3 -m venv .venv; .venv/bin/python -m pip install -q --disable-pip-version-check -r $<; touch $@
.venv/ready-tests: requirements-test.txt .venv/ready
	exec 9< $<; flock 9 2> /dev/null || true; test ! $@ -nt $< || exit 0; \
	.venv/bin/python -m pip install -q --disable-pip-version-check -r $<; touch $@
