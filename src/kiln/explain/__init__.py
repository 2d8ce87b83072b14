"""What an image is, where each thing in it comes from, and what changed between two of them."""
