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

==================== =========================================================================
``session``          makes the spool, starts a guard, becomes the relay
``guard``            the loop, and all that it does for jobs
``watch``            what stands beside a guard while there are leases
``sweeps``           what removes the left-overs of a user
``doctor``           what a host can and cannot do for its jobs
``protocol``         what goes over the link, and its types checked
``entries``          the spool: a launch, and the lines that tell of it
``wrappers``         the shells around a job's command
``oarsh``            what oarsh needs here: a port, an sshd for a job
``accounts``         who may run jobs
``containment``      which of ``loose``, ``cgroups_v1`` and ``cgroups_v2`` works here; ``devices``
``files``, ``host``, ``processes``, ``spawning``, ``keys``: the system
==================== =========================================================================
"""
