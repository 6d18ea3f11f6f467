"""Running stages on Ray Data and committing what they produce."""
