"""Peers: brax's SAC and PPO, as published, beside this program on MuJoCo Playground's tasks."""
