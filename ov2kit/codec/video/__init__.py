"""Bytes of a file to decoded frames: packets, the table of shown pictures, decoders."""
