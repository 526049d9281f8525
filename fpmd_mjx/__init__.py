"""fpmd_mjx: one-step flow policies trained beside thousands of MJX simulations in one program."""
