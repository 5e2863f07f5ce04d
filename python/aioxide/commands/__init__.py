"""The commands that run a program, look at one, and open what was recorded of it."""
