"""Groups that do not speak of the resources' type get ordinary resources, no licences or storage."""

from oarpy.actions.admission import Submission
from oarpy.model.filter_grammar import properties_of


def admit(submission: Submission) -> None:
    for group in submission.groups:
        if group.filter is None or "type" not in properties_of(group.filter):
            group.require("type = 'default'")
