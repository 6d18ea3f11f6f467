"""Sources of recordings: folders, tables, manifests, archives, listed lazily and in a stable order."""
