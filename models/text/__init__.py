"""Text: normalisation, spoken forms, phonemes, and front ends that turn a sentence into token ids.

Pure functions of text, used by preparation, training and speaking alike.
"""
