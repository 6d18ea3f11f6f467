"""Forced alignment: when each word of a known transcript is spoken.

`interface.Aligner` is what engines offer; `espeak_dtw` needs no weights, `ctc` takes any wav2vec2-style model.
"""
