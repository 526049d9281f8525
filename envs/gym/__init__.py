"""Ports of gymnasium's MuJoCo tasks (https://gymnasium.farama.org/environments/mujoco)."""
