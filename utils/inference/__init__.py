"""Trained networks to masks."""
