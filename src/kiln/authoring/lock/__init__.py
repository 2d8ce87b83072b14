"""Resolution -> lock: which package in which version, every input by digest, from verified indexes."""
