# The whole study in about a minute and a half on 2 CPU cores: it shows that everything works, not that anything is true.
PRETRAIN_DATA = glyphs:letters --image-size 32 --train-per-class 4 --val-per-class 1 --test-per-class 2
FINETUNE_DATA = glyphs:digits --image-size 32 --train-per-class 10 --val-per-class 2 --test-per-class 10
EPOCHS   = 5
SEEDS    = 0
RUNS     = 2
CONTROLS = swa_last
TRAIN    = --batch-size 32 --train-images 50
TRAIN_swa = --snapshots 5
MEASURE  = --images 20 --batchnorm-images 50 --gaussian-noise-levels 0,0.1 --gaussian-noise-repeats 2 --square-mask-levels 0,0.25 --square-mask-repeats 2 \
           --fgsm-levels 0,0.004 --local-energy-levels 0,0.1 --local-energy-repeats 2
PAIR     = --images 20 --batchnorm-images 50 --points 3
FINETUNE = --epochs 1 --batch-size 32 --lr 1e-3 --train-images 50
TUNE_LR  = 1e-3
TUNE_BATCH = 32
