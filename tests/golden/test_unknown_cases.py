"""Every parity case has a test that runs it."""


def test_every_case_is_run(unknown_cases):
    """A case without a test is an implementation that nobody compared."""
    without_code, _ = unknown_cases
    assert not without_code
