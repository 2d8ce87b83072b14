"""The command line: one file a command, no decisions of its own."""
