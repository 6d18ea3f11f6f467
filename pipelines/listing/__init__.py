"""What is left to do of a source: what it offers, against what is committed, cut into batches."""
