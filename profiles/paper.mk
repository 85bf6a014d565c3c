# The report's protocol in full, which is what the scripts' defaults are: 112 px, 65,000 images, five seeds. A GPU.
# lr and batch size are the scripts' (the report does not give its own lr) until `make tune PROFILE=paper` has run on a GPU.
TASKS = cifar10
MODES = full probe
# An image folder that is not named again stays the one that the pack was made from.
FOLDER_pretrain = IMAGENET
FOLDER_cifar10 = CIFAR
CONTROLS = swa/last
SEEDS    = 0 1 2 3 4
THREADS  = 4
JOBS     = 3
PRETRAIN_DATA = $(call quoted,$(IMAGENET)) --image-size 112 --classes 50
TASK_cifar10 = $(call quoted,$(or $(CIFAR),cifar10:$A/data/cifar10)) --image-size 112 --val-per-class 500
# BatchNorm recomputed for what verdicts use, stored beside it, as the original report had it.
MEASURE  = --batchnorm both
REPORT   = --reference eval/report/paper_curves.json
TUNE     = --epochs 10
