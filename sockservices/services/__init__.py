"""The services of this package: only their data handling, one file each."""
