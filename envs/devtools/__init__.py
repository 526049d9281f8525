"""Tools for developers of the environments. Users of the tasks import none of them."""
