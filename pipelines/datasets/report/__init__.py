"""The page that describes one dataset version: what is counted, what is drawn, how it is laid out."""
