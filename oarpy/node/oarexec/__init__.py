"""What runs on a node: it starts jobs, watches them and says what became of them.

Standard library only, Python 3.6 or later, sent to hosts as one zip, so that a node needs
nothing installed.  It lives several lives::

    oarexec session --spool DIR --instance UUID [--min-uid N]
    oarexec guard   --spool DIR --instance UUID [--min-uid N]
    oarexec watch   --spool DIR --instance UUID [--min-uid N]
    oarexec doctor  --spool DIR
    oarexec sweep   UID GID WHAT [DIR …]

A **session** carries lines between its stdin and stdout (the runner's link) and
the guard's socket, starts a guard when there is none, and ends with either.  The
**guard**, one for each instance on a host, does everything: it starts jobs,
waits for them, kills what they leave behind, and fences old sessions.  It is
detached: sessions come and go, jobs and guard go on.  When it dies the next
session starts another, which takes over what it finds in the spool.

================ ==========================================================================
``session``      makes the spool, starts a guard, becomes the relay
``guard``        the guard's loop (``loop``), and who does what in it:
``links``        .. speaks with sessions
``launches``     .. begins launches: ``variables``, ``wrappers``, ``accounts``
``running``      .. sees to them until they are over; ``orders`` of the server
``endings``      .. leads them to their end; ``reasons`` are told in words
``inheritance``  .. takes over what another guard left
``leases``       .. keeps what is leased, and the watch
``children``     .. waits for processes; ``programs`` are the administrator's
``oarsh``        .. lets oarsh in; ``access`` is what it and its sshd read
``spool``        .. keeps the entries; ``site`` is what holds for all of them
``watch``        what stands beside a guard while there are leases
``sweeps``       what removes the left-overs of a user
``doctor``       what a host can and cannot do for its jobs
``protocol``     what goes over the link, its types checked
``entries``      a launch, and the lines of the spool that tell of it
``containment``  which of ``loose``, ``cgroups_v1`` and ``cgroups_v2`` works here; ``devices``
================ ==========================================================================

Below them are ``files``, ``host``, ``processes``, ``spawning`` and ``keys``: the system.
"""
