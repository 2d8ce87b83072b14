"""Debian packages: reading, unpacking many at once, dpkg's database, configuring."""
