# Who runs a recipe, where and with what. Nothing here knows what a study is made of.
# Names in capitals are words that people may give; those in small letters are this project's own.
ifneq ($(filter 3.% 4.0 4.0.% 4.1 4.1.%,$(MAKE_VERSION)),)
$(error basins needs GNU make 4.2 or newer; this is $(MAKE_VERSION))
endif
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# What people type is taken as it stands: $ and # in a folder's name mean nothing to make.
typed := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
$(foreach v,$(typed),$(eval override $v := $$(value $v)))
quoted = '$(subst ','\'',$1)'

# PYTHON, typed or in the environment, names an environment that has the requirements (the
# container); without it, .venv is made here. The graph is written by any Python.
ifeq ($(PYTHON),)
override PYTHON := .venv/bin/python
interpreter := .venv/bin/python
ready := .venv/ready
ready_tests := .venv/ready-tests
python := $(or $(wildcard .venv/bin/python),python3)
else
ready :=
ready_tests :=
interpreter = $(call quoted,$(PYTHON))
python = $(interpreter)
endif

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

# on: where a command runs. run: common/recipe.py runs it, and says what is running; show: as well
# as what it prints.
on = $(if $(GPUS),bash common/gpu.sh $(GPUS)) $(LAUNCH) $(interpreter)
run = $(if $(filter 1 yes,$(V)),SHOW=1 ,@)$(python) -m common.recipe
show = $(if $(filter 1 yes,$(V)),,@)SHOW=1 $(python) -m common.recipe

# The graph, written anew each time make starts, then read. Under -n and -q it is a temporary file.
without := setup lint quick test test-full bench container
ifneq ($(filter-out $(without),$(or $(MAKECMDGOALS),help)),)
capitals := A% B% C% D% E% F% G% H% I% J% K% L% M% N% O% P% Q% R% S% T% U% V% W% X% Y% Z%
given = $(foreach v,$(filter $(capitals),$(.VARIABLES)),$(if $(filter file,$(origin $v)),$(call quoted,file:$v=$($v)))) \
        $(foreach v,$(typed),$(call quoted,typed:$v=$($v)))
version := import sys; sys.exit(sys.version_info < (3, 11) and print("basins needs Python 3.11 or newer") or 0)
answer := $(shell $(python) -c $(call quoted,$(version)) && \
            exec $(python) -m common.graph $(call quoted,$(MAKEFLAGS)) $(call quoted,$(MAKECMDGOALS)) $(given))
ifneq ($(.SHELLSTATUS),0)
$(error $(or $(answer),$(if $(filter 126 127,$(.SHELLSTATUS)),there is no Python at $(python)),common/graph.py failed))
endif
-include $(answer)
$(if $(filter %.temporary.mk,$(answer)),$(shell rm $(answer)))
endif

# Two profiles started at once wait for each other here, and find it done.
.venv/ready: requirements.txt
	exec 9< $<; flock 9 2> /dev/null || true; test ! $@ -nt $< || exit 0; \
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "basins needs Python 3.11 or newer")'; \
	python3 -m venv .venv; .venv/bin/python -m pip install -q --disable-pip-version-check -r $<; touch $@
.venv/ready-tests: requirements-test.txt .venv/ready
	exec 9< $<; flock 9 2> /dev/null || true; test ! $@ -nt $< || exit 0; \
	.venv/bin/python -m pip install -q --disable-pip-version-check -r $<; touch $@
