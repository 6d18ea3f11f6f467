"""MaskGCT's acoustic codec (arXiv 2409.00750, section 3.4): DAC's encoder, 12 factorized codebooks, a Vocos decoder."""
