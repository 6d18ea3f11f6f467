"""VALL-E: text and a voice prompt to codes, the first level token by token, the others at once (arXiv 2301.02111)."""
