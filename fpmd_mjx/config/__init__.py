"""Settings: the schema, the rules that they keep, and how they are composed."""
