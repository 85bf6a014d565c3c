# Real images at 64 px: 50 classes of a folder of images and CIFAR-10; hours on 2 CPU cores, minutes on a GPU.
NEEDS_IMAGENET = yes
CONTROLS = swa_last
PER_CLASS = 200
PRETRAIN_DATA = $(IMAGENET) --image-size 64 --classes 50 --train-per-class $(PER_CLASS) --val-per-class 20 --test-per-class 20
FINETUNE_DATA = $(or $(CIFAR),cifar10:$A/data/cifar10) --image-size 64 --train-per-class $(DIGITS) --val-per-class 50 --test-per-class 100
