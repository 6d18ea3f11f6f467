"""The Descript Audio Codec (arXiv 2306.06546) and its published weights."""
