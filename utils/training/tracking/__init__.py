"""Logging of a run: metrics.csv and args.json, and if wanted W&B and TensorBoard."""
