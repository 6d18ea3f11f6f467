"""SoundStorm: semantic tokens and a voice prompt to all levels of an acoustic codec (arXiv 2305.09636)."""
