"""Where recordings come from: folders and tables of recordings, listed lazily and in a stable order."""
