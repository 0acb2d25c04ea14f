"""Checkpoint files: the forms that are read, and what their entries have to be."""
