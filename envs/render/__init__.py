"""Images in the compiled program, and pictures for videos."""
