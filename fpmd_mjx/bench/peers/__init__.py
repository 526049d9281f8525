"""Peers, as published: brax's SAC and PPO on MuJoCo Playground's tasks, and SBX's SAC, TQC and
CrossQ on the original simulators."""
