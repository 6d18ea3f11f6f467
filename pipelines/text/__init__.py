"""Text of utterances: transcripts as they are read, numbers and symbols as they are spoken, phonemes."""
