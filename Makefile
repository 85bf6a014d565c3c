# basins: a study is the words below. common/graph.py writes from them a plain rule a file, in
# artifacts/PROFILE/graph.mk, and make runs what is out of date. `make help` lists targets and words.
# The sizes of the study: profiles/demo.mk sets what differs from the words below.
PROFILE = demo
A       = artifacts/$(PROFILE)

# What is pretrained: files of train/. METHOD@FLAG_VALUE is the method at a setting of its own,
# noisy_adam@sigma_0.1; @sigma_0.1,0.2 is two settings. Every setting meets every seed.
METHODS = adam noisy_adam swa
# Ordered settings along one knob: LADDERS = lr with LADDER_lr = adam@lr_5e-4 adam adam@lr_2e-3
LADDERS =
# Minima that a method leaves beside its own: swa/last, the last weights before SWA's average.
CONTROLS =
# A range, 0-4, or 0 1 2; SEEDS_swa = 0 for one method.
SEEDS = 0 1
EPOCHS = 40

# What is measured: files of eval/; those of MEASUREMENTS_MORE with MORE=1.
MEASUREMENTS = clean gaussian_noise square_mask fgsm local_energy
MEASUREMENTS_MORE = pgd corruptions local_energy_layers local_energy_all adaptive_sharpness hessian \
                    rounded_weights
MORE =
# What is measured on two minima: files of eval/. Of the settings in PAIRED each meets each, with
# the first seed and the second, and with the first alone.
COMPARISONS = distance line
PAIRED = $(METHODS)

# What is finetuned, how and how often: a pack of images each, files of finetune/.
TASKS = digits
MODES = full
RUNS = 5

# What the packs of images are made of, for pretraining and for each task.
PRETRAIN_DATA =
TASK_digits =
# People's own folders of images. (FOLDER_pretrain = IMAGENET, in a profile: a pack that was made
# from the folder in IMAGENET stays as it is when nobody names the folder again.)
IMAGENET =
CIFAR =

# Flags of the scripts where they differ from the scripts' own: TRAIN for all methods, TRAIN_swa for
# one; likewise MEASURE_fgsm, COMPARE_line, FINETUNE_full, and FINETUNE_digits for one task.
TRAIN =
MEASURE =
COMPARE =
FINETUNE =
REPORT =
DETERMINISTIC =

# What `make tune` tries on the val split. TUNE: more flags of its pretraining.
TUNE_METHODS = adam@lr_3e-4,1e-3,3e-3@batch-size_64,256 \
               noisy_adam@sigma_0.03,0.05,0.1@lr_3e-4,1e-3,3e-3@batch-size_64,256 \
               swa@swa-lr_2e-4,5e-4@lr_3e-4,1e-3,3e-3@batch-size_64,256
TUNE_MODES = full@lr_3e-5,1e-4,3e-4@batch-size_64,256
TUNE_RUNS = 3
TUNE =

# Where recipes run: THREADS of a process, JOBS at once (default: as the cores allow), how many GPUS
# of this machine, LAUNCH before each command. V=1 shows whole commands and all that they print.
# TOGETHER: recipes of one stage that share a process, where neither GPUS nor LAUNCH is given; it
# saves each the seconds in which PyTorch is imported.
THREADS = 1
TOGETHER = 1
JOBS =
GPUS =
LAUNCH =
V =
# Seconds of a recipe by kind, pretrain:20 measure:9, until one has finished in the folder.
SECONDS =
# For `make plan`: a change in points of test accuracy after finetuning; it says the seeds for it.
EFFECT =
# For `make report`, `make bench` and `make test`.
PARTIAL =
OUT =
BENCH =
TESTS = tests

-include profiles/$(PROFILE).mk
include common/machine.mk

.PHONY: all report tune plan check clean help setup lint quick test test-full bench container FORCE
# all, report, tune, plan, check and every file of the study: in the graph.
clean:
	rm -rf $A
setup: $(ready)

help:
	@echo 'make all        the whole study: pretrain, measure, compare, finetune, report; MORE=1: all measurements'
	@echo 'make plan       what will be made, why, how long it takes, how small an effect it finds; EFFECT=3: the seeds for it'
	@echo 'make report     the report alone, from the files as they are; PARTIAL=1: also where some are missing'
	@echo 'make tune       tries the settings of TUNE_METHODS and TUNE_MODES on the val split, and prints a table'
	@echo 'make $A/adam-0/passport.h5   any one file;  make -n all  every command that would run'
	@echo 'make check      every file of $A against its checksum, and against what it was made from'
	@echo 'make clean      removes $A'
	@echo 'make quick      ruff and the tests of a minute; make test  the suite; make test-full  the long proofs too'
	@echo 'make bench      the speed of this machine;  make container  the image, and the smoke study in it'
	@echo 'make setup      the environment in .venv alone'
	@echo
	@$(foreach v,PROFILE A METHODS LADDERS CONTROLS SEEDS EPOCHS MEASUREMENTS MEASUREMENTS_MORE MORE COMPARISONS PAIRED \
	  TASKS MODES RUNS IMAGENET CIFAR THREADS JOBS GPUS LAUNCH PYTHON,printf '  %-18s%s\n' '$v' $(call quoted,$($v));)
	@printf '  %-18s%s\n' profiles '$(patsubst profiles/%.mk,%,$(wildcard profiles/*.mk))'

# TESTS="tests/test_ranks.py …" runs some. tests/conftest.py says what slow and full are.
pytest = $(interpreter) -m pytest -q -n auto --dist loadfile --no-loadscope-reorder $(TESTS)
lint: | $(ready_tests)
	$(interpreter) -m ruff check --no-cache .
	$(interpreter) -m ruff format --no-cache --check .
quick: lint
	$(pytest) -m 'not slow and not full'
test: | $(ready_tests)
	$(pytest) -m 'not full'
test-full: | $(ready_tests)
	$(pytest)
bench: | $(ready)
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS $(on) -m tests.bench --out $(or $(OUT),$A/bench) $(BENCH)
container:
	@bash tests/container.sh
