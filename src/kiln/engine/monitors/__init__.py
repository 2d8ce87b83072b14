"""osbuild's monitors: how the command line tells what happens, as text or as records for programs."""
