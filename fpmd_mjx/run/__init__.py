"""The host's part of a run: the loop, the run folder, checkpoints, logs, suites."""
