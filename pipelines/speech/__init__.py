"""Speech processing without Ray: voice activity, alignment, transcription, quality."""
