"""MaskGCT: text to codes of a codec in two masked-generative stages (arXiv 2409.00750)."""
