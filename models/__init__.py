"""Plain PyTorch models: tensors in, tensors out."""
