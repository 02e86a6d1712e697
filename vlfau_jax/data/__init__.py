"""From raw trees to batches: builders, faces, folds, captions and the pipeline. No jax here."""
