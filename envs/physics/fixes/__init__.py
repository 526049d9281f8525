"""Corrections of MJX and MJX-Warp, one file each."""
