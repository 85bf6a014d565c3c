"""Training: one loop for pretraining and finetuning, its checkpoints, curves and processes."""
