"""The one process that an admin starts, and what brings it up."""
