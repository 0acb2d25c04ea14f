"""Image-mask pairs to batches."""
