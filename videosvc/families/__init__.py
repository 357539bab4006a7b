"""Models, a family a file, behind one small interface."""
