"""The servers to compare with, each a program in one file."""
