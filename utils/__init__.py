"""What train.py, predict.py, evaluate.py and prune.py share: one idea a file."""
