"""A head in three dimensions: surface, muscles, folds, skin, light and camera."""
