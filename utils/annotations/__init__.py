"""Annotations of labelling tools and of Kaggle's competitions, drawn as masks."""
