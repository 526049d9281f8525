"""Peers: brax's SAC and PPO, as published, on MuJoCo Playground's tasks."""
