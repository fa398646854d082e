"""What a block is worth."""
