"""What train.py, predict.py and evaluate.py share: one idea a file."""
