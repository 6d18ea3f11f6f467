"""Measures of a wave: DNSMOS, noise, clipping, bandwidth, silence."""
