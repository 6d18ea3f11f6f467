"""Semantic features and tokens of speech."""
