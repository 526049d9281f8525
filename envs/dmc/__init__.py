"""Ports of dm_control's suite (Tassa et al. 2018, https://arxiv.org/abs/1801.00690)."""
