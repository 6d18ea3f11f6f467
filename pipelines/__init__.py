"""Ray Data jobs: recordings in, committed shards, speech and embeddings out."""
