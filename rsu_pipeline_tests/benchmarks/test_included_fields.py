"""The costs of optional fields, measured small: bytes grow with what is requested, calls do not."""

from benchmarks import included_fields


def test_optional_fields_cost_bytes_and_no_calls() -> None:
    found = included_fields.measure(400, 1, ("none", "questions", "all"))
    assert found.rows == 400
    for costs in (found.first, found.again):
        assert len({one.calls for one in costs.values()}) == 1
        none, questions, everything = (costs[name].megabytes for name in ("none", "questions", "all"))
        assert 1.2 * none < questions < everything < 2.5 * none
    assert all(rate > 0 for rates in found.merged_per_second.values() for rate in rates)
    included_fields.show(found)
