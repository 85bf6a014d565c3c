# The whole study in about a minute on 2 CPU cores: it shows that everything works, not that anything is true.
PRETRAIN_DATA = glyphs:letters --image-size 32 --train-per-class 4 --val-per-class 1 --test-per-class 2
TASK_digits = glyphs:digits --image-size 32 --train-per-class 10 --val-per-class 2 --test-per-class 10
EPOCHS   = 5
SEEDS    = 0
RUNS     = 2
CONTROLS = swa/last
TRAIN    = --batch-size 32 --train-images 50
TRAIN_swa = --snapshots 5
MEASURE  = --images 10 --batchnorm-images 50
MEASURE_gaussian_noise = --gaussian-noise-levels 0,0.1 --gaussian-noise-repeats 2
MEASURE_square_mask    = --square-mask-levels 0,0.25 --square-mask-repeats 2
MEASURE_fgsm           = --fgsm-levels 0,0.004
MEASURE_local_energy   = --local-energy-levels 0,0.1 --local-energy-repeats 2
MEASURE_pgd            = --pgd-levels 0,0.004
MEASURE_corruptions    = --corruptions-levels 0,3
MEASURE_local_energy_layers = --local-energy-layers-levels 0,0.1 --local-energy-layers-repeats 1
MEASURE_local_energy_all    = --local-energy-all-levels 0,0.1 --local-energy-all-repeats 2
MEASURE_adaptive_sharpness  = --adaptive-sharpness-draws 2 --adaptive-sharpness-steps 3
MEASURE_hessian        = --hessian-iterations 2 --hessian-vectors 2
COMPARE  = --images 10 --batchnorm-images 50
COMPARE_line = --points 3
FINETUNE = --epochs 1 --batch-size 32 --lr 1e-3 --train-images 50
TUNE_METHODS = adam@lr_1e-3 noisy_adam@sigma_0.03,0.05,0.1 swa@swa-lr_2e-4,5e-4
TUNE_MODES = full@lr_3e-5,1e-4,3e-4
BENCH    = --image-size 32 --batch-size 32
# Of one recipe on one core of a 2-core AMD EPYC, two at once: a minute in all.
SECONDS  = prepare:2 check:4 pretrain:8 measure:6 compare:4 finetune:5 report:7
