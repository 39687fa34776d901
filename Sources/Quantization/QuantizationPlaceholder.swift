// BF16 checkpoints to FP8, INT8 and INT4 files.
