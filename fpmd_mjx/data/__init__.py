"""The replay buffer, the observation statistics and counters."""
