# The whole study in about a minute on 2 CPU cores: it shows that everything works, not that anything is true.
PRETRAIN_DATA = glyphs:letters --image-size 32 --train-per-class 4 --val-per-class 1 --test-per-class 2
FINETUNE_DATA = glyphs:digits --image-size 32 --train-per-class 10 --val-per-class 2 --test-per-class 10
EPOCHS   = 5
SEEDS    = 0
RUNS     = 2
CONTROLS = swa_last
TRAIN    = --batch-size 32 --train-images 100
TRAIN_swa = --snapshots 5
MEASURE  = --images 50 --batchnorm-images 100 --gaussian-noise-levels 0,0.1,0.3 --gaussian-noise-repeats 2 --square-mask-levels 0,0.25 --square-mask-repeats 2 \
           --fgsm-levels 0,0.004,0.02 --local-energy-levels 0,0.1,0.3 --local-energy-repeats 2
PAIR     = --images 50 --batchnorm-images 100 --points 3
FINETUNE = --epochs 2 --batch-size 32 --lr 1e-3 --train-images 100
TUNE_LR  = 1e-3
TUNE_BATCH = 32
