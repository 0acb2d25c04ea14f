"""Readers of the files of labelling tools and of competitions, one format each."""
