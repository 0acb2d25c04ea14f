"""Errors, files, command line, devices, processes: used by all other packages, imports none."""
