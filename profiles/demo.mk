# Two ladders on letters and digits that are drawn here: ten minutes on 2 CPU cores. Sizes and rungs
# were chosen by pilots on other seeds, so that there is an effect to see.
PRETRAIN_DATA = glyphs:capitals --image-size 32 --train-per-class 40 --val-per-class 2 --test-per-class 20
TASK_digits   = glyphs:digits --image-size 32 --train-per-class 10 --val-per-class 2 --test-per-class 50
METHODS  = adam swa
# Two knobs, each from adam; their epochs match the train loss of the rungs.
LADDERS  = lr noise
LADDER_lr    = adam@lr_5e-4@epochs_7 adam@lr_7e-4@epochs_8 adam adam@lr_2e-3@epochs_12
LADDER_noise = adam noisy_adam@sigma_0.05 noisy_adam@sigma_0.1@epochs_10 noisy_adam@sigma_0.2@epochs_13
SEEDS    = 0-3
SEEDS_swa = 0 1
EPOCHS   = 9
PAIRED   = adam
MODES    = full probe
RUNS     = 2
TOGETHER = 4
TRAIN    = --batch-size 32 --decay-from 0.5 --train-images 130
TRAIN_swa = --snapshots 8
# Of each measure the split that the ladders ask for, BatchNorm recomputed for every minimum alike.
MEASURE  = --images 312 --batchnorm-images 260 --batchnorm recomputed
MEASURE_gaussian_noise = --gaussian-noise-levels 0,0.1,0.2 --gaussian-noise-repeats 2 --gaussian-noise-split test
MEASURE_square_mask    = --square-mask-levels 0,0.2,0.4 --square-mask-repeats 2 --square-mask-split test
MEASURE_fgsm           = --fgsm-levels 0,0.002,0.004 --fgsm-split test
MEASURE_local_energy   = --local-energy-levels 0,0.25,0.5 --local-energy-repeats 2 --local-energy-split train
MEASURE_pgd            = --pgd-levels 0,0.002,0.008
MEASURE_local_energy_all   = --local-energy-all-levels 0,0.1,0.2,0.35 --local-energy-all-repeats 20
MEASURE_adaptive_sharpness = --adaptive-sharpness-images 250
MEASURE_hessian        = --hessian-images 100 --hessian-iterations 20 --hessian-vectors 10
COMPARE  = --images 260 --batchnorm-images 260
COMPARE_line = --points 7
FINETUNE = --epochs 8 --batch-size 20 --lr 1e-3 --decay-from 0.5 --train-images 100 --test-at-end --source-images 260
REPORT   = --note "The tasks and settings of this profile were chosen by pilots on other seeds, so that there is an effect to see. Its images are letters and digits drawn here, no photographs."
BENCH    = --image-size 32 --batch-size 32
# Of one recipe on one core of a 2-core AMD EPYC (AVX-512), two at once.
SECONDS  = prepare:2 check:4 pretrain:19 measure:9 compare:4 finetune:6 report:10
