"""The services of this package: data handling only, one file each."""
