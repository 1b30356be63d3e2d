"""A batch scheduler for clusters in the OAR style, on PostgreSQL."""

__version__ = "0.1.0"
