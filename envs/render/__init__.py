"""Images in the program, and pictures outside of it."""
