"""Mask files to class indices and back."""
