"""The loop that turns a plan into a file, and what it is made of."""
