"""Output files of predict.py: their names, formats and writers."""
