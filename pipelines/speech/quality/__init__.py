"""What can be measured of a wave: DNSMOS, noise, clipping, bandwidth, silence."""
