"""What exists: dataset versions and model versions. Imports neither torch nor ray."""
