"""Training: committed shards in, registered generators, codecs and systems out."""
