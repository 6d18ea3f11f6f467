"""Codecs: waveforms become integer codes, and codes become waveforms."""
