"""What may be asked of the server: each verb is judged first, then written.

Judging opens no transaction and touches no table; it yields a `Prepared`, whose
``write`` is called inside the transaction that also stores the answer.
"""
