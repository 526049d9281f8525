"""What the host does around the program: the loop, the run folder, checkpoints, logs, suites."""
