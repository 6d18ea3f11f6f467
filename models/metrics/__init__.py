"""Measures of speech and of how sure they are."""
