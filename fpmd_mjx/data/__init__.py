"""What a run keeps of its experience: the replay, the observation statistics, counters."""
