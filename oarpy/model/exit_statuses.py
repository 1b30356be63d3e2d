"""The exit statuses of the commands: OAR's where it has one, sysexits.h's for the rest."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What a command tells its caller; scripts rely on these numbers."""

    OK = 0
    #: An option is wrong or missing; a job is unknown or belongs to another user.
    REFUSED = 1
    #: ``oarremoveresource``: the resource is not Dead.  ``oarpy``: no command; its help is shown.
    NOT_DEAD_OR_NO_COMMAND = 2
    #: ``oarwalltime``: the site's rules, or the job's owner, do not allow it.
    #: ``oarsh``, ``oarcp``: there is no such job of the caller's that runs and can be come to.
    FORBIDDEN = 3
    #: ``oardel``: the id is not a number of a job, or is no array's.
    #: ``oarwalltime``: no such job, or a mistake in typing.
    #: ``oarsh``, ``oarcp``: the job has not this host, or it cannot be reached.
    #: ``oarsub --resubmit``: the job cannot be submitted again.
    BAD_ID = 4
    #: ``oarsub``: no command.  ``oardel -s``, ``oardel -c``: the job does not run.
    #: ``oarwalltime``: walltimes cannot be changed here.
    #: ``oarsh``, ``oarcp``: an option of ssh that is not for jobs.
    NOTHING_TO_DO = 5
    #: ``oarsub``: bad ``--array``.  ``oardel``: the job is being deleted already.
    ARRAY_OR_ALREADY = 6
    #: ``oarsub -r``: a date cannot be read, or an option does not go with a reservation.
    RESERVATION_DATE = 7
    #: ``oarsub``: the submission is well-formed and refused (unknown queue, never fits, …);
    #: administration commands: the caller is not the administrator.
    DENIED = 8
    #: ``oarsub``: the file of array parameters cannot be read or used.  ``oardel -b``: the job does not run.
    PARAMETERS_OR_NOT_RUNNING = 9
    #: ``oarsub -r``: the reservation was refused; its job is in Error.
    #: ``oardel --force-terminate-finishing-job``: the job is not Finishing.
    RESERVATION_OR_NOT_FINISHING = 10
    #: ``oarsub -I``: the job was killed, or failed, under its shell or before.
    #: ``oardel --force-terminate-finishing-job``: it is not for long.  ``oarnodesetting``: jobs are still there.
    INTERACTIVE_OR_NOT_YET = 11
    #: ``oarsub -S``: the script cannot be read, or has a directive that does not exist.
    #: ``oarnodesetting --sql``: no resource satisfies the condition.
    SCRIPT_OR_NOTHING_CHOSEN = 12
    #: ``oarnodesetting -f``: the file cannot be read.
    HOST_FILE = 13
    #: ``oarsub -i``, ``-e``: no key for a job, or its file cannot be written.
    JOB_KEY = 15
    #: ``oarsub --notify``: unsafe or malformed.
    NOTIFY = 16
    #: ``oarsub -I``: a job that runs nothing has no shell.
    NOOP = 17
    #: A resource request, a filter or a duration does not follow its grammar.
    SYNTAX = 18
    #: ``oarsub -C``: the job does not run, belongs to somebody else, or cannot be entered.
    CONNECT = 20
    #: The option is OAR's and not (yet) oarpy's.
    UNSUPPORTED = 69
    #: A defect of oarpy itself.
    DEFECT = 70
    #: Results cannot be written to stdout: it is closed, or its disk full.  What was asked for may have been done.
    OUTPUT_LOST = 74
    #: The server does not answer; nothing has been done and nothing will be.
    TRY_LATER = 75
    #: The connection broke while the request was on its way: ask again with its key.
    UNKNOWN_OUTCOME = 76
    #: The configuration must be mended.
    CONFIGURATION = 78
    #: ``--wait``: the job was killed, by ``oardel``, to make room, or for want of memory.
    JOB_ENDED = 123
    #: ``--wait``: the job's walltime had passed.
    WALLTIME = 124
    #: ``--wait``: the job could not run, or to its end, and not by its own doing.
    JOB_FAILED = 125
    #: ^C; the request was withdrawn.
    INTERRUPTED = 130
    #: An admission rule refuses the submission (OAR's -2 as the shell sees it).
    ADMISSION = 254
