"""Conditional flow matching: semantic tokens and a voice prompt to continuous latents of a codec (arXiv 2401.13527)."""
