"""`fpmd bench agent`: how well settings learn, on the same tasks, seeds and env steps."""
