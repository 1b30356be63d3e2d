"""The only SQL of oarpy: tables, and one module for each concern.

Functions take a ``Connection``, never open a transaction and never commit; the
caller draws the transaction around what must be one.
"""
