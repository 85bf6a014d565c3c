# The study on letters and digits that are drawn here, in minutes on 2 CPU cores.
PRETRAIN_DATA = glyphs:letters --image-size 32 --train-per-class 40 --val-per-class 10 --test-per-class 20
TASK_digits   = glyphs:digits --image-size 32 --train-per-class 50 --val-per-class 10 --test-per-class 25
EPOCHS   = 8
RUNS     = 2
TRAIN    = --batch-size 32 --decay-from 0.5 --train-images 250
TRAIN_swa = --snapshots 8
MEASURE  = --images 250 --batchnorm-images 250
MEASURE_gaussian_noise = --gaussian-noise-levels 0,0.05,0.1,0.2,0.4,0.8 --gaussian-noise-repeats 2
MEASURE_square_mask    = --square-mask-levels 0,0.1,0.2,0.4,0.6,0.8 --square-mask-repeats 2
MEASURE_fgsm           = --fgsm-levels 0,0.001,0.002,0.004,0.008,0.016,0.03
MEASURE_local_energy   = --local-energy-levels 0,0.1,0.2,0.35,0.5 --local-energy-repeats 3
MEASURE_pgd            = --pgd-levels 0,0.002,0.008
MEASURE_local_energy_all   = --local-energy-all-levels 0,0.1,0.2,0.35 --local-energy-all-repeats 20
MEASURE_adaptive_sharpness = --adaptive-sharpness-images 250
MEASURE_hessian        = --hessian-images 100 --hessian-iterations 20 --hessian-vectors 10
COMPARE  = --images 250 --batchnorm-images 250
COMPARE_line = --points 11
FINETUNE = --epochs 4 --batch-size 32 --lr 1e-3 --decay-from 0.5 --train-images 250
BENCH    = --image-size 32 --batch-size 32
# Of one recipe on one core of a 2-core AMD EPYC, two at once: 6.3 min in all.
SECONDS  = prepare:4 check:4 pretrain:48 measure:26 compare:8 finetune:20 report:8
