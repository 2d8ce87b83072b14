"""OCI images: layouts on disk and registries, read and written by digest."""
