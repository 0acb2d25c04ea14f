"""The page of app.py: try a model in the browser. Nothing here predicts: the Predictor does."""
