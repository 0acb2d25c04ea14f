"""Pairs of images and masks: patterns of file names, matching, proposals where nothing matches."""
