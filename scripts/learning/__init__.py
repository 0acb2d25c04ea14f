"""Parts of benchmark_learning.py."""
