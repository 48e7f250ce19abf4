from schemas.denials import WAITING, WARNING, Denials

PULL = "$js.api.consumer.msg.next.jobs.echo-i4"


def test_a_node_that_was_not_granted_yet_is_no_warning() -> None:
    denials = Denials()
    assert denials.pull(PULL, 10.0) == WAITING
    assert denials.pull(PULL, 10.1) == ""
    assert denials.pull(PULL.replace("-i4", "-b4"), 10.1) == WAITING


def test_what_stays_denied_is_one_each_minute() -> None:
    denials = Denials()
    said = [denials.pull(PULL, 10.0 + second) for second in range(0, 130, 10)]
    assert said == [WAITING, WARNING, *[""] * 5, WARNING, *[""] * 5]


def test_what_is_no_request_for_jobs_is_left_to_others() -> None:
    assert Denials().pull("$js.api.stream.delete.jobs", 1.0) is None


def test_subjects_are_not_remembered_for_ever() -> None:
    denials = Denials()
    for number in range(9000):
        assert denials.pull(f"{PULL}{number}", 1.0) == WAITING
    assert len(denials._next) <= 4096
