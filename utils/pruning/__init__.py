"""Pruning: a trained network made cheaper by removing channels."""
