"""The pure scheduling core: a snapshot in, a plan out.

No table, clock, log or randomness: the same snapshot always gives the same plan.
Times are whole seconds since the epoch, names end in ``_s``.
"""
