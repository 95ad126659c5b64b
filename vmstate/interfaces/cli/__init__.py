"""The command line: one module a noun, loaded when its command runs."""
