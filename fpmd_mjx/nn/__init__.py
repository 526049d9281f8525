"""Networks, encoders, critics and the guarded optimizer."""
