"""What every program stands on: errors, files, devices, processes. Imports no other room."""
