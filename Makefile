# basins: the study as a graph of files. Lists of words, one rule a stage; `make help` shows targets and variables.
ifeq ($(filter 4.% 5.%,$(MAKE_VERSION)),)
$(error This needs GNU make 4 or newer; this is $(MAKE_VERSION))
endif
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

# The registry. A word of METHODS is a file of train/, of MEASUREMENTS, MEASUREMENTS_MORE and COMPARISONS one of eval/, of MODES one of finetune/.
METHODS      = adam noisy_adam swa
CONTROLS     =
MEASUREMENTS = clean gaussian_noise square_mask fgsm local_energy
MEASUREMENTS_MORE = pgd corruptions local_energy_layers local_energy_all adaptive_sharpness hessian
MORE         =
COMPARISONS  = distance line
PARTIAL      =
MODES        = full
SEEDS        = 0 1
RUNS         = 5

SHORT   := $(filter-out --%,$(firstword -$(MAKEFLAGS)))
PROFILE  = demo
EPOCHS   = 40
THREADS  = 1
CORES   := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
JOBS     = $(shell echo $$(( $(CORES) > $(THREADS) ? $(CORES) / $(THREADS) : 1 )))
LAUNCH   =
GPUS     =
DETERMINISTIC =
IMAGENET =
CIFAR    =

quoted   = '$(subst ','\'',$1)'

# Flags of each stage; a profile sets what differs from the scripts' own defaults.
PRETRAIN_DATA =
FINETUNE_DATA =
TRAIN         =
MEASURE       =
COMPARE       =
FINETUNE      =
REPORT        =
TUNE          =
TUNE_METHODS  = $(METHODS)
TUNE_MODES    = $(MODES)
TUNE_LR       = 3e-4 1e-3 3e-3
TUNE_BATCH    = 64 256
TUNE_noisy_adam = sigma=0.03 sigma=0.05 sigma=0.1
TUNE_swa      = swa-lr=2e-4 swa-lr=5e-4
TUNE_FINETUNE_LR = 3e-5 1e-4 3e-4
TUNE_RUNS     = 3
BENCH         =
TESTS         = tests

ifeq ($(wildcard profiles/$(PROFILE).mk),)
$(error PROFILE=$(PROFILE): no such profile; there are $(patsubst profiles/%.mk,%,$(wildcard profiles/*.mk)))
endif
include profiles/$(PROFILE).mk

ifeq ($(LOCKED)$(filter -j%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(or $(GPUS),$(JOBS))
endif
export OMP_NUM_THREADS := $(THREADS)
export MKL_NUM_THREADS := $(THREADS)
# glibc keeps what a step frees: taking it from the system again at every step cost 13 % of training at batch 32.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 68719476736
# What is kept for the next process, or container, of a user: kernels compiled for the GPU, a list of fonts.
CACHE   := $(CURDIR)/artifacts/cache-$(shell id -u)
export TORCHINDUCTOR_CACHE_DIR ?= $(CACHE)/inductor
export MPLCONFIGDIR ?= $(CACHE)/matplotlib
# In a read-only container nothing but artifacts can be written.
ifeq ($(TMPDIR)$(shell test -w /tmp || echo no),no)
export TMPDIR := $(shell mkdir -p $(CACHE) 2> /dev/null && echo $(CACHE))
endif

# PYTHON names an environment that has the requirements (the container); without it, .venv is made here.
ifeq ($(origin PYTHON),undefined)
PYTHON = .venv/bin/python
READY  = .venv/ready
READY_TESTS = .venv/ready-tests
endif
RUN = $(if $(GPUS),bash common/gpu.sh $(GPUS)) $(LAUNCH) $(PYTHON)

# What the study is made of: minima, pairs (a-0--b-1 for a <= b; a-0--b-0 for a < b), settings tried by `make tune`.
A       = artifacts/$(PROFILE)
TRAINED = $(foreach m,$(METHODS),$(SEEDS:%=$m-%))
COPIED  = $(foreach m,$(if $(filter swa,$(METHODS)),$(CONTROLS)),$(SEEDS:%=$m-%))
MINIMA  = $(TRAINED) $(COPIED)
FIRST   = $(word 1,$(SEEDS))
SECOND  = $(word 2,$(SEEDS))
rest        = $(wordlist 2,$(words $1),$1)
independent = $(if $1,$(1:%=$(firstword $1)-$(FIRST)--%-$(SECOND)) $(call independent,$(call rest,$1)))
shared      = $(if $1,$(patsubst %,$(firstword $1)-$(FIRST)--%-$(FIRST),$(call rest,$1)) $(call shared,$(call rest,$1)))
PAIRS   = $(if $(SECOND),$(call independent,$(METHODS))) $(call shared,$(METHODS))

grid          = $(foreach l,$1,$(TUNE_BATCH:%=--lr=$l--batch-size=%))
TUNED_METHODS = $(foreach m,$(TUNE_METHODS),$(foreach g,$(call grid,$(TUNE_LR)),$(if $(TUNE_$m),$(TUNE_$m:%=$m$g--%),$m$g)))
TUNED_MODES   = $(foreach m,$(TUNE_MODES),$(addprefix $m,$(call grid,$(TUNE_FINETUNE_LR))))
TUNINGS       = $(TUNED_METHODS:%=$A/tune/%/training.h5) $(TUNED_MODES:%=$A/tune/finetune-%.h5)

# A passport's second volume holds what takes longer; without MORE the first is remade by nothing that is done to it.
PASSPORTS = $(MINIMA:%=$A/%/passport.h5) $(if $(MORE),$(MINIMA:%=$A/%/passport-more.h5))
REPORTED = $(TRAINED:%=$A/%/training.h5) $(PASSPORTS) $(foreach c,$(COMPARISONS),$(PAIRS:%=$A/%/$c.h5)) \
           $(foreach m,$(MODES),$(MINIMA:%=$A/%/finetune-$m.h5))

REPORT_FLAGS = --profile $(PROFILE) --pack $A/data/pretrain.h5 --pack $A/data/finetune.h5 $(patsubst %,--tuned %,$(wildcard $(TUNINGS))) $(FLAGS_report)

first = $(firstword $(subst -, ,$1))
last  = $(lastword $(subst -, ,$1))
flags = $(addprefix --,$(call rest,$(subst --, ,$1)))

# A folder of images that is not named again stays the one that the pack was made from.
unnamed = $(and $(NEEDS_IMAGENET),$(if $($1),,yes))
ifneq ($(and $(filter-out help quick lint test test-full container setup clean report bench check,$(MAKECMDGOALS)),$(call unnamed,IMAGENET),$(if $(file < $A/flags/prepare-pretrain)$(wildcard $A/data/pretrain.h5),,yes)),)
$(error PROFILE=$(PROFILE) needs IMAGENET=folder with train/CLASS/*.jpg and val/CLASS/*.jpg)
endif

.PHONY: help all quick lint test test-full container report tune bench check setup clean FORCE LOCK
# One make at a time writes in a folder. The lock is held by make and by all that it starts, so that it ends with the last of them, killed or not.
ifneq ($(and $(filter-out help quick lint test test-full container setup bench check $(if $(PARTIAL),report),$(MAKECMDGOALS)),$(if $(LOCKED)$(findstring n,$(SHORT))$(findstring q,$(SHORT)),,yes)),)
$(MAKECMDGOALS): LOCK ; @:
LOCK:
	+@mkdir -p $A/flags; exec 9>> $A/flags/lock; flock -w 3 -E 9 9 2> /dev/null || test $$? != 9 || \
	{ echo "$A: $$(< $A/flags/lock) is at work here; wait for it, or stop it" >&2; exit 1; }; \
	echo "make $(MAKECMDGOALS) (process $$$$ on $$(uname -n), since $$(date '+%F %T'))" > $A/flags/lock; \
	find $A -name '.*.part' -delete; exec $(MAKE) --no-print-directory LOCKED=yes $(MAKECMDGOALS)
else

help:
	@echo 'make all                 the whole study of a profile: pretrain, measure, compare, finetune, report'
	@echo 'make all MORE=1          the same with the measurements of MEASUREMENTS_MORE'
	@echo 'make quick               ruff and the tests of a minute, after each change; TESTS="tests/test_ranks.py …" some of them'
	@echo 'make test                all tests but the longest;  make test-full  those too'
	@echo 'make tune                try lr, batch size, … on the val split and print a table with the choice'
	@echo 'make report              the report alone, from the files as they are; PARTIAL=1 also where some are missing'
	@echo 'make $A/adam-0/passport.h5  any one file; make -n all shows what would run'
	@echo 'make bench               speed of this machine at the profile'"'"'s image size: a plain script, ours, and what the hardware allows'
	@echo 'make container           the image, built, and tests and the smoke study in it (tests/container.sh says with which engine)'
	@echo 'make check               every file of $A against its checksum'
	@echo 'make setup               the environment in .venv alone;  make clean  removes $A'
	@echo
	@$(foreach v,PROFILE METHODS CONTROLS SEEDS MEASUREMENTS MEASUREMENTS_MORE COMPARISONS MODES RUNS EPOCHS THREADS JOBS DETERMINISTIC PYTHON LAUNCH GPUS IMAGENET CIFAR,printf '  %-17s %s\n' '$v' '$($v)';)
	@printf '  profiles          %s\n' '$(patsubst profiles/%.mk,%,$(wildcard profiles/*.mk))'

all: $A/report/index.html
ifeq ($(findstring q,$(SHORT)),)
	@echo 'report: $<'
endif
report: | $(READY)
	$(RUN) -m eval.report --out $A/report$(if $(PARTIAL),-partial --partial) $(REPORT_FLAGS) $(REPORTED)
tune: $(TUNINGS)
	@$(RUN) -m eval.tuning $(TUNINGS) > $A/tune/.table.txt.part
	@mv $A/tune/.table.txt.part $A/tune/table.txt && cat $A/tune/table.txt
bench: | $(READY)
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS $(RUN) -m tests.bench --out $(or $(OUT),$A/bench) $(BENCH)
check: | $(READY)
	@$(RUN) -m common.check $(sort $(shell find $A -name '[!.]*.h5' -o -name '[!.]*.safetensors'))
setup: $(READY)
clean:
	rm -rf $A

# Each stage's flags are kept in a file that is written again only when they differ: a changed number remakes what used it, and nothing else.
same = $(if $(subst x$1,,x$2)$(subst x$2,,x$1),,yes)
define keep
FLAGS_$1 := $2
$(if $(call same,$(file < $A/flags/$1),$2),,$A/flags/$1: FORCE)
endef
kept = $(eval $(call keep,$1,$(strip $2)))
same_bits = $(if $(DETERMINISTIC),--deterministic)
$(call kept,prepare-pretrain,$(if $(call unnamed,IMAGENET),$(file < $A/flags/prepare-pretrain),$(PRETRAIN_DATA)))
$(call kept,prepare-finetune,$(or $(if $(call unnamed,CIFAR),$(file < $A/flags/prepare-finetune)),$(FINETUNE_DATA)))
$(foreach m,$(METHODS),$(call kept,train-$m,--epochs $(EPOCHS) $(TRAIN) $(TRAIN_$m) $(same_bits)))
$(call kept,passport,$(MEASURE) $(same_bits) $(foreach m,$(MEASUREMENTS),$(MEASURE_$m) $m))
$(call kept,passport-more,$(MEASURE) $(same_bits) $(foreach m,$(MEASUREMENTS_MORE),$(MEASURE_$m) $m))
$(foreach c,$(COMPARISONS),$(call kept,compare-$c,$(COMPARE) $(COMPARE_$c) $(same_bits)))
$(foreach m,$(MODES),$(call kept,finetune-$m,--runs $(RUNS) $(FINETUNE) $(FINETUNE_$m) $(same_bits)))
$(call kept,report,$(REPORT))
$(call kept,tune,$(TUNE))
$A/flags/%:
	@mkdir -p $(@D) && printf '%s' $(call quoted,$(FLAGS_$*)) > $@

.SECONDEXPANSION:
$A/data/pretrain.h5 $A/data/finetune.h5: $A/data/%.h5: common/images/prepare.py common/images/sources.py $A/flags/prepare-% | $(READY)
	$(RUN) -m common.images.prepare --out $@ $(FLAGS_prepare-$*)

$(TRAINED:%=$A/%/weights.safetensors): $A/%/weights.safetensors: train/$$(call first,$$*).py $A/data/pretrain.h5 $A/flags/train-$$(call first,$$*)
	$(RUN) -m train.$(call first,$*) --data $A/data/pretrain.h5 --out $(@D) --seed $(call last,$*) $(FLAGS_train-$(call first,$*))

# Written by the run that made the weights, before them; touched, so that it is not older than what it depends on. What the run still held goes.
$(TRAINED:%=$A/%/training.h5) $(TUNED_METHODS:%=$A/tune/%/training.h5) $(SEEDS:%=$A/swa-%/last.safetensors): $$(@D)/weights.safetensors
	@test -e $@ && rm -f $(@D)/resume.h5 && touch $@ || { echo '$@: missing; remove $< and run make again' >&2; exit 1; }

$(COPIED:%=$A/%/weights.safetensors): $A/swa_last-%/weights.safetensors: $A/swa-%/last.safetensors
	@mkdir -p $(@D) && cp $< $(@D)/.weights.part && sync $(@D)/.weights.part && mv $(@D)/.weights.part $@

define PASSPORT
$(MINIMA:%=$A/%/$1.h5): %/$1.h5: eval/battery.py $(2:%=eval/%.py) %/weights.safetensors $A/data/pretrain.h5 $A/flags/$1
	$$(RUN) -m eval.battery --data $A/data/pretrain.h5 --minimum $$(@D) --out $$@ $$(FLAGS_$1)
endef
$(eval $(call PASSPORT,passport,$(MEASUREMENTS)))
$(eval $(call PASSPORT,passport-more,$(MEASUREMENTS_MORE)))

define COMPARISON
$(PAIRS:%=$A/%/$1.h5): $A/%/$1.h5: eval/$1.py $$$$(foreach m,$$$$(subst --, ,$$$$*),$A/$$$$m/weights.safetensors) $A/data/pretrain.h5 $A/flags/compare-$1
	$$(RUN) -m eval.$1 --data $A/data/pretrain.h5 --minima $$(patsubst %,$A/%,$$(subst --, ,$$*)) --out $$@ $$(FLAGS_compare-$1)
endef
$(foreach c,$(COMPARISONS),$(eval $(call COMPARISON,$c)))

define MODE
$(MINIMA:%=$A/%/finetune-$1.h5): %/finetune-$1.h5: finetune/$1.py %/weights.safetensors $A/data/finetune.h5 $A/flags/finetune-$1
	$$(RUN) -m finetune.$1 --data $A/data/finetune.h5 --minimum $$(@D) --out $$@ $$(FLAGS_finetune-$1)
endef
$(foreach m,$(MODES),$(eval $(call MODE,$m)))

# What was tuned is shown as it is; a study does not tune again by itself.
$A/report/index.html: $(wildcard $(addprefix eval/report/,*.* sections/*.py templates/*)) $A/flags/report $(REPORTED) $(wildcard $A/tune/table.txt)
	$(RUN) -m eval.report --out $(@D) $(REPORT_FLAGS) $(REPORTED)

# A setting's name is its flags: adam--lr=1e-3--batch-size=64. Finetuning is tried on the first minimum.
$(TUNED_METHODS:%=$A/tune/%/weights.safetensors): $A/tune/%/weights.safetensors: train/$$(call first,$$*).py $A/data/pretrain.h5 $A/flags/tune
	$(RUN) -m train.$(call first,$*) --data $A/data/pretrain.h5 --out $(@D) --epochs $(EPOCHS) $(TRAIN) $(TRAIN_$(call first,$*)) $(TUNE) $(call flags,$*)

$(TUNED_MODES:%=$A/tune/finetune-%.h5): $A/tune/finetune-%.h5: finetune/$$(call first,$$*).py $A/$(firstword $(MINIMA))/weights.safetensors $A/data/finetune.h5 $A/flags/tune
	$(RUN) -m finetune.$(call first,$*) --data $A/data/finetune.h5 --minimum $A/$(firstword $(MINIMA)) --out $@ --runs $(TUNE_RUNS) $(FINETUNE) $(FINETUNE_$(call first,$*)) --measure-on val $(call flags,$*)

# Files are written whole or not at all: none is make's to delete when it is stopped.
.PRECIOUS: $(MINIMA:%=$A/%/weights.safetensors) $(TUNED_METHODS:%=$A/tune/%/weights.safetensors) $(SEEDS:%=$A/swa-%/last.safetensors) \
           $(REPORTED) $(TUNINGS) $A/data/pretrain.h5 $A/data/finetune.h5 $A/report/index.html

# As many workers as there are cores. The tests of a file share one, and so what its fixtures make. (By number of tests, the default order,
# the longest files would come last.) tests/conftest.py says what slow and full are.
PYTEST = $(PYTHON) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(TESTS)
quick: lint
	$(PYTEST) -m 'not slow and not full'
lint: | $(READY_TESTS)
	$(PYTHON) -m ruff check --no-cache .
	$(PYTHON) -m ruff format --no-cache --check .
test: | $(READY_TESTS)
	$(PYTEST) -m 'not full'
test-full: | $(READY_TESTS)
	$(PYTEST)

container:
	@bash tests/container.sh

# Two profiles started at once wait for each other here, and find it done.
.venv/ready: requirements.txt
	exec 9< $<; flock 9 2> /dev/null || true; test ! $@ -nt $< || exit 0; \
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "basins needs Python 3.11 or newer")'; \
	python3 -m venv .venv; .venv/bin/python -m pip install -q --disable-pip-version-check -r $<; touch $@
.venv/ready-tests: requirements-test.txt .venv/ready
	exec 9< $<; flock 9 2> /dev/null || true; test ! $@ -nt $< || exit 0; \
	.venv/bin/python -m pip install -q --disable-pip-version-check -r $<; touch $@
endif
