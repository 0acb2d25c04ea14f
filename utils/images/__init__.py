"""Image and array files to pixels."""
