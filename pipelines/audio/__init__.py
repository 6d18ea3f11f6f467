"""Decoding audio files, in this process or in an isolated one."""
