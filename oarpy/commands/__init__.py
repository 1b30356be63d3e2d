"""The commands: parse, ask or read, print.  One file each."""
