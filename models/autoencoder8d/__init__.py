"""The 8-D autoencoder of MaskGCT's parts (raoabinav/versaface_autoencoder): speech <-> 8 numbers per 20 ms."""
