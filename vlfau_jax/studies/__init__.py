"""Many runs and one table: folds, ablations, and other tools beside ours."""
