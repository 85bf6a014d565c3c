# The question on photographs: 20 ImageNet classes at 64 px, two ladders that share a rung, six seeds; CIFAR-10 as task. Two hours and more on 2 CPU
# cores. All sizes, margins and the family were fixed before the first of its seeds was trained, by pilots on other seeds: docs/real-plan.md.
# An image folder that is not named again stays the one that the pack was made from.
FOLDER_pretrain = IMAGENET
FOLDER_cifar10 = CIFAR
FOLDER_cifar10_few = CIFAR
# Which 20 classes. The same study on others, whose page says which verdicts repeat:
# make all PROFILE=real A=artifacts/again DRAW="--seed 2 --leave-out docs/real-classes.txt" EARLIER=docs/real.json …
DRAW      = --seed 1
EARLIER   =
PRETRAIN_DATA = $(call quoted,$(IMAGENET)) --image-size 64 --classes 20 --train-per-class 60 --val-per-class 5 --test-per-class 50 $(DRAW)
TASKS     = cifar10 cifar10_few
TASK_cifar10     = $(call quoted,$(or $(CIFAR),cifar10:$A/data/cifar10)) --image-size 64 --train-per-class 50 --val-per-class 10 --test-per-class 100
TASK_cifar10_few = $(call quoted,$(or $(CIFAR),cifar10:$A/data/cifar10)) --image-size 64 --train-per-class 10 --val-per-class 10 --test-per-class 100
METHODS   = adam swa
CONTROLS  = swa/last
# Two knobs, each from adam; their epochs match the train loss of the rungs.
LADDERS   = lr noise
LADDER_lr    = adam@lr_2.5e-4@epochs_6 adam@lr_5e-4@epochs_7 adam adam@lr_2e-3@epochs_14
LADDER_noise = adam noisy_adam@sigma_0.05 noisy_adam@sigma_0.1@epochs_10 noisy_adam@sigma_0.2@epochs_13
SEEDS     = 0-5
SEEDS_swa = 0-2
EPOCHS    = 9
PAIRED    = adam
MODES     = full probe
RUNS      = 2
TOGETHER  = 4
TRAIN     = --batch-size 32 --decay-from 0.5 --train-images 100
TRAIN_swa = --epochs 12 --swa-lr 1e-3 --snapshots 4
# BatchNorm recomputed for what verdicts use, stored beside it.
MEASURE   = --images 1000 --batchnorm-images 500 --batchnorm both
MEASURE_gaussian_noise = --gaussian-noise-levels 0,0.1,0.2 --gaussian-noise-repeats 1 --gaussian-noise-split test
MEASURE_square_mask    = --square-mask-levels 0,0.2,0.4 --square-mask-repeats 1 --square-mask-split test
MEASURE_fgsm           = --fgsm-levels 0,0.002,0.004 --fgsm-split test
MEASURE_local_energy   = --local-energy-levels 0,0.25,0.5 --local-energy-repeats 1 --local-energy-split train
COMPARE   = --images 250 --batchnorm-images 500
COMPARE_line = --points 5
FINETUNE  = --decay-from 0.5 --lr 3e-4 --train-images 100 --test-at-end --source-images 500
FINETUNE_cifar10     = --epochs 6 --batch-size 32
FINETUNE_cifar10_few = --epochs 12 --batch-size 20
REPORT    = --reference eval/report/paper_curves.json --stands-for noisy_adam=noisy_adam@sigma_0.1@epochs_10 --margin test_accuracy=0.03 --margin forgetting=0.03 $(if $(EARLIER),--earlier $(call quoted,$(EARLIER)))
BENCH     = --image-size 64 --batch-size 32
# Of one recipe on one core of a 2-core Intel Xeon (AVX-512, float32), two at once.
SECONDS   = prepare:3 check:10 pretrain:135 measure:110 compare:20 finetune:30 report:20
