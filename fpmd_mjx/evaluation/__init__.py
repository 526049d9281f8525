"""The deployed policy, and its episodes in MJX and in the original simulators."""
