"""Predicted and true masks to scores."""
