"""Tools for developers of the environments; nothing that a user of the tasks imports."""
