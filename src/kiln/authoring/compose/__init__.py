"""Lock to plan: pure, no input or output."""
