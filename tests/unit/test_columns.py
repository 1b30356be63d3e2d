"""What columns can hold, and the sentences about what they cannot."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from oarpy.client.job_columns import COLUMNS
from oarpy.errors import SyntaxRefused
from oarpy.model.columns import SMALL, Column, Kind, fitting, is_whole, settable

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
#: OAR's table of jobs, column by column.
OARS = (
    "job_id array_id array_index initial_request job_name job_env job_type info_type state reservation message"
    " scheduler_info job_user project job_group command exit_code queue_name properties launching_directory"
    " submission_time start_time stop_time file_id accounted notify assigned_moldable_job checkpoint"
    " checkpoint_signal stdout_file stderr_file resubmit_job_id suspended"
)


def test_every_column_of_oars_table_of_jobs_may_be_named():
    assert set(OARS.split()) - set(COLUMNS) == set()


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("job_id", 5, "5"),
        ("job_id", "5", "5"),
        ("job_id", 1.5, "1.5"),
        ("state", "Running", "Running"),
        ("suspended", "YES", "true"),
        ("suspended", False, "false"),
        ("walltime", "1:30", "5400"),
        ("walltime", 60, "60"),
        ("start_time", 0, "0"),
        ("start_time", "1970-01-01 01:00 UTC", "3600"),
        ("job_name", 7, "7"),
        ("last_karma", "0.5", "0.5"),
    ],
)
def test_a_value_that_fits_is_read(name, value, read):
    assert fitting(name, COLUMNS[name], value, NOW) == read


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("job_id", "x", "job_id is a number, and never 'x'"),
        ("job_id", True, "job_id is a number, and never 'True'"),
        ("exit_code", "1_0", "exit_code is a number, and never '1_0'"),
        ("exit_code", "٣", "exit_code is a number, and never '٣'"),
        ("job_type", "passive", "job_type is one of PASSIVE, INTERACTIVE, and never 'passive'; did you mean PASSIVE?"),
        ("job_type", "Foo", "job_type is one of PASSIVE, INTERACTIVE, and never 'Foo'"),
        ("suspended", "perhaps", "suspended is YES or NO, and never 'perhaps'"),
        ("walltime", "long", "walltime is seconds, or h:m:s, and never 'long'"),
        ("stop_time", "never", "stop_time is seconds since 1970, or YYYY-MM-DD HH:MM:SS, and never 'never'"),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_one_sentence(name, value, sentence):
    with pytest.raises(SyntaxRefused) as refusal:
        fitting(name, COLUMNS[name], value, NOW)

    assert str(refusal.value) == sentence


def test_what_is_set_is_a_whole_number_that_there_is_room_for():
    column = Column("core", Kind.INTEGER, highest=SMALL)

    for text in ("-2147483648", "2147483647"):
        assert settable("core", column, text, NOW) == text
    for text in ("2147483648", "-2147483649", "9" * 5000, "1.5", "1e3", "inf", "nan", ""):
        with pytest.raises(SyntaxRefused):
            settable("core", column, text, NOW)


def test_a_number_is_compared_as_an_integer_only_where_it_is_one_that_fits():
    assert [is_whole(text, SMALL) for text in ("5", "-5", "2147483647")] == [True] * 3
    assert [is_whole(text, SMALL) for text in ("2147483648", "1.0", "1e3", "nan", "9" * 5000)] == [False] * 5
