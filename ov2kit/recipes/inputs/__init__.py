"""What tables, files and clients hand over, made plain: nulls, addresses, JSON lines."""
