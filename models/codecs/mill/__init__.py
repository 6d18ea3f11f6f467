"""The embedded codec: log-mel frames, residual vector quantization, Griffin-Lim; weights in `<name>@<edition>`."""
