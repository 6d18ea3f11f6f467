"""The corpus and the listener of the demo."""
