"""The three machines of oarpy as data: job, resource, almighty."""
