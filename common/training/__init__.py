"""The training room: one loop for pretraining and finetuning, its checkpoints, its curves, and several processes for one run."""
