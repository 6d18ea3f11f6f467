"""toktts: an encoder of text and a decoder of interleaved or delayed codes (after alexeyrodriguez/toktts)."""
