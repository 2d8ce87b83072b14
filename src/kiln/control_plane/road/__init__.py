"""The road from a request to a recorded image, for one machine and one process."""
