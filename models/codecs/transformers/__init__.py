"""Codecs that Hugging Face's transformers ships, behind the codec interface."""
