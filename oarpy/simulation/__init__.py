"""A site that does not exist: what the scheduling core would have made of a workload.

Nothing here knows a table: a workload comes from a file (`swf`), or from whoever
read it elsewhere.
"""
