"""Known vulnerabilities: advisories in a local database, matched against the components of an image."""
