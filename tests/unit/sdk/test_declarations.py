"""What is declared wrongly stops the start, with what it is and what to write instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from stepfold import App, Concurrency, Event, NotBuiltError, Retry, cron, event, step
from stepfold.core.errors import ConfigurationError
from stepfold.sdk.triggers import EventView

if TYPE_CHECKING:
    from stepfold.sdk.limits import Concurrency as OnlyForCheckers


async def nothing() -> None: ...


def declared(decorator: Callable[..., Any], function: Any) -> Any:
    return decorator(function)


def refusal(declare: Callable[[], object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        declare()
    return str(caught.value)


def test_workflow_can_be_declared_in_every_form_of_the_contract() -> None:
    app = App("forms")
    app.workflow(nothing)

    @app.workflow()
    async def with_brackets() -> None: ...

    app.workflow("given")(nothing)
    app.workflow(name="named")(nothing)

    @app.workflow(
        on=[event("agent/run", if_="event.data.query != ''")], tenant="event.data.account_id"
    )
    async def agent(question: dict[str, str]) -> dict[str, str]:
        return question

    app.workflow("single", on=event("one"))(nothing)

    assert list(app.workflows) == [
        "nothing", "with_brackets", "given", "named", "agent", "single",
    ]  # fmt: skip
    asked = EventView(name="agent/run", id="", payload=b'{"query": "x", "account_id": "a1"}')
    assert agent.matches(asked)
    assert agent.tenant_of(asked) == "a1"


def test_workflow_is_its_function_outside_of_runs() -> None:
    app = App("direct")

    @app.workflow
    async def double(number: int) -> int:
        return 2 * number

    assert asyncio.run(double(2)) == 4


@pytest.mark.parametrize("name", ["", "Research", "1st", "a_b", "a" * 64, "a.b", None])
def test_name_that_no_topic_can_have_is_no_apps_name(name: Any) -> None:
    assert "use a lower-case letter" in refusal(lambda: App(name))


@pytest.mark.parametrize("name", ["", "1st", "a b", "a/b", "ä", "a" * 129])
def test_name_of_a_workflow_is_a_word(name: str) -> None:
    assert "not a name for a workflow of app 'names'" in refusal(
        lambda: declared(App("names").workflow(name), nothing)
    )


def test_two_workflows_of_one_name_are_refused_with_both_places() -> None:
    app = App("twice")
    app.workflow(nothing)

    @app.workflow("another")
    async def other() -> None: ...

    message = refusal(lambda: declared(app.workflow("nothing"), other.function))

    assert "two workflows named 'nothing'" in message
    assert message.count("test_declarations.py:") == 2


def plain(question: str) -> str:
    return question


async def with_two(question: str, account: str) -> None: ...


async def with_keyword(*, question: str) -> None: ...


async def with_many(*questions: str) -> None: ...


async def yielding() -> AsyncIterator[int]:
    yield 1


async def unresolvable(limit: OnlyForCheckers) -> None: ...


async def result_unresolvable() -> OnlyForCheckers:
    raise NotImplementedError


async def unstorable(ready: asyncio.Event) -> None: ...


async def result_unstorable() -> asyncio.Event:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (plain, "must be an async function, and plain ("),
        (lambda: None, "must be an async function"),
        (yielding, "must be an async function"),
        (with_two, "has 2 parameters (question, account); it may have one"),
        (with_keyword, "question: 'str'"),
        (with_many, "*questions: 'str'"),
        (unresolvable, "the annotation of 'limit' of unresolvable ("),
        (result_unresolvable, "the return annotation of result_unresolvable ("),
        (unstorable, "the input of workflow 'unstorable' of app 'functions' is of a type"),
        (result_unstorable, "the result of workflow 'result_unstorable' of app 'functions' is of"),
    ],
)
def test_function_that_cannot_be_a_workflow_is_refused(function: Any, reason: str) -> None:
    assert reason in refusal(lambda: declared(App("functions").workflow, function))


def test_types_of_a_workflow_may_be_local_to_where_it_is_declared() -> None:
    class Question(BaseModel):
        query: str

    app = App("local")

    @app.workflow
    async def agent(question: Question) -> Question:
        return question

    (question,) = agent.arguments(Event("asked"), b'{"query": "tides"}')
    assert question == Question(query="tides")


@pytest.mark.parametrize("wrong", ["agent/run", "", 5, [event("a"), "b"], nothing])
def test_trigger_that_is_no_event_is_refused(wrong: Any) -> None:
    assert "on= of @app.workflow of app 'on' takes event(...)" in refusal(
        lambda: App("on").workflow(on=wrong)
    )


@pytest.mark.parametrize("name", ["", "x" * 513])
def test_event_without_a_name_that_intake_takes_is_refused(name: str) -> None:
    assert "needs the name of an event" in refusal(lambda: event(name))


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("event.data.query !=", "1:20"),
        ("evnt.data.query == ''", "undeclared reference to 'evnt.data.query'"),
        ("1 + 'a'", " | 1 + 'a'\n | ..^"),
        (5, "must be text, got 5"),
    ],
)
def test_filter_that_does_not_compile_is_shown_with_the_place(expression: Any, place: str) -> None:
    assert place in refusal(lambda: event("agent/run", if_=expression))
    assert place in refusal(lambda: App("cel").workflow(tenant=expression)(nothing))


@pytest.mark.parametrize(
    "payload",
    [b"", b"null", b"[]", b'"x"', b'{"query": 5}', b'{"query": 1e400}', b"{", b'{"query": null}',
     b'{"query": ' + b"9" * 400 + b"}", b"[" * 150 + b"]" * 150],
)  # fmt: skip
def test_odd_event_is_no_match_and_no_error(payload: bytes) -> None:
    trigger = event("agent/run", if_="event.data.query.startsWith('x')")

    assert not trigger.matches(EventView(name="agent/run", id="", payload=payload))


@pytest.mark.parametrize(
    ("account", "tenant"),
    [(b'"a1"', "a1"), (b"12", "12"), (b"null", ""), (b'{"id": 1}', ""), (b"[]", "")],
)
def test_tenant_is_a_text_or_a_number(account: bytes, tenant: str) -> None:
    definition = App("tenants").workflow(tenant="event.data.account")(nothing)

    view = EventView(name="x", id="", payload=b'{"account": ' + account + b"}")

    assert definition.tenant_of(view) == tenant


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": Concurrency(limit=2)},
        {"throttle": 1},
        {"rate_limit": 1},
        {"debounce": 1},
        {"batch": 1},
        {"singleton": "skip"},
        {"priority": "event.data.priority"},
        {"cancel_on": event("stop")},
        {"idempotency": "event.id"},
        {"on_failure": nothing},
        {"on_exhausted": "pause"},
        {"key": "event.data.id"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_option_that_is_not_built_is_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(NotBuiltError) as caught:
        App("later").workflow(**options)

    assert caught.value.option == f"{next(iter(options))}="
    assert "@app.workflow of app 'later'" in str(caught.value)


def test_option_that_asks_for_nothing_is_taken() -> None:
    app = App("defaults")

    app.workflow(concurrency=(), key=None, on_exhausted="fail", cancel_on=())(nothing)

    assert list(app.workflows) == ["nothing"]


def test_option_that_does_not_exist_is_refused_by_name() -> None:
    options: dict[str, Any] = {"timout": "5m"}

    assert "has no option 'timout'" in refusal(lambda: App("typo").workflow(**options))
    assert "@step has no option 'timout'" in refusal(lambda: step(**options))


def test_trigger_by_the_clock_is_not_built() -> None:
    with pytest.raises(NotBuiltError, match="0 6"):
        cron("0 6 * * 1-5", timezone="Europe/Paris", input={"query": "news"})


@pytest.mark.parametrize("timeout", ["5 parsecs", -1, float("nan"), timedelta(days=400), True, []])
def test_timeout_that_is_no_duration_is_refused(timeout: Any) -> None:
    assert "timeout= of @app.workflow of app 'late': " in refusal(
        lambda: App("late").workflow(timeout=timeout)
    )
    assert "timeout= of @step: " in refusal(lambda: step(timeout=timeout))


def test_timeout_of_nothing_is_refused() -> None:
    assert "must be more than 0" in refusal(lambda: App("late").workflow(timeout=0))
    assert "must be more than 0" in refusal(lambda: step(name="x", timeout="0s"))


@pytest.mark.parametrize(
    "values",
    [{"attempts": 0}, {"attempts": 1_001}, {"factor": 0.5}, {"jitter": 2}, {"min_delay": "soon"}],
)
def test_retry_names_the_value_that_is_out_of_bounds(values: dict[str, Any]) -> None:
    (wrong,) = values.values()

    with pytest.raises(ValueError, match=str(wrong)):
        Retry(**values)


def test_retry_that_is_a_number_is_refused() -> None:
    wrong: Any = 3

    for declare in (
        lambda: App("retry", retry=wrong),
        lambda: App("retry").workflow(retry=wrong),
        lambda: step(retry=wrong),
        lambda: step(plain).options(retry=wrong),
    ):
        assert "takes Retry(...), got 3" in refusal(declare)


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (generator, "yields, and a step has one result: let generator ("),
        (yielding, "yields, and a step has one result"),
        (result_unstorable, "the result of result_unstorable ("),
        ("search", "@step takes a function, got 'search'"),
        (5, "needs a function, got a int"),
    ],
)
def test_function_that_cannot_be_a_step_is_refused(function: Any, reason: str) -> None:
    assert reason in refusal(lambda: declared(step, function))


def test_method_cannot_be_a_step_but_be_called_as_one() -> None:
    def declare() -> None:
        class Tools:  # pyright: ignore[reportUnusedClass]
            @step
            async def search(self, query: str) -> str:
                return query

    # Before 3.12, Python wraps what __set_name__ raises.
    with pytest.raises((ConfigurationError, RuntimeError)) as caught:
        declare()

    error = caught.value.__cause__ or caught.value
    assert "step.run(name, object.method, ...)" in str(error)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "must have 1 to 200 characters, got ''"),
        ("x" * 201, "must have 1 to 200 characters"),
        (5, "must have 1 to 200 characters, got 5"),
        ("a#2", "text without # [ ]"),
        ("a[b]", "text without # [ ]"),
        ("\ud83d", "text without # [ ]"),
        ("timer", "stands for the timers of asyncio.sleep"),
        ("definition", "stands for the wait for a workflow that is not deployed"),
    ],
)
def test_name_that_no_step_can_have_is_refused(name: Any, reason: str) -> None:
    assert reason in refusal(lambda: step(name=name)(plain))
