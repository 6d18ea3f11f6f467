"""The record of dataset versions and model versions. Imports neither torch nor ray."""
