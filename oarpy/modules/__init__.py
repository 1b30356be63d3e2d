"""The modules that almighty calls.  They meet only in the tables."""
