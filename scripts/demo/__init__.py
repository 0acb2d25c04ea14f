"""What make_demo_data.py draws: one module for each kind of scene."""
