"""Programs outside: they trigger, signal, cancel, repeat themselves and write nonsense.

They know what a client of the real thing knows: what they sent, and where Kafka says that it
landed; a run's id follows from that. Each record is written down as sent, with what it
should become.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pydantic_core

from stepfold.core import commands as c
from stepfold.core.ids import run_id_of, short_topic_id
from stepfold.journal.codec import encode_command
from stepfold.journal.port import AppTopics, Headers
from tests.simulation.cluster import SimCluster
from tests.simulation.plans import Node, nodes, random_plan
from tests.simulation.stage import Sent, Sort

FOLLOW_UP_US_MAX = 6_000_000
IDS = ("evt-1", "evt-2")
"""Few, so that they are repeated."""


class Clients:
    def __init__(
        self, cluster: SimCluster, topics: AppTopics, dice: random.Random, *, deadly: bool
    ) -> None:
        self._cluster = cluster
        self._universe = cluster.universe
        self._stage = cluster.stage
        self._topics = topics
        self._dice = dice
        self._deadly = deadly
        self._numbers = 0

    def plan_triggers(self, count: int, window_us: int) -> None:
        """So many records for the inbox, at any time within the window."""
        for _ in range(count):
            self._universe.after(int(window_us * self._dice.random()), self._trigger)

    def attend_to(self, run_id: str, plan: Node) -> None:
        """Once the faults are over: give a run that still waits whatever it may wait for."""
        self._control(Sort.RESUME, run_id, c.Resume(run_id=run_id, by="client", reason=""))
        for name, kind in sorted({(n["name"], n["type"]) for n in _signals(plan)}):
            self._signal(run_id, name, kind)

    # The inbox

    def _trigger(self) -> None:
        dice = self._dice
        partition = dice.randrange(self._topics.inbox.partitions)
        sort = dice.choices((Sort.START, Sort.EVENT, Sort.UNWANTED, Sort.GARBAGE), (10, 8, 3, 2))[0]
        match sort:
            case Sort.START:
                sent, headers = self._start(partition)
            case Sort.EVENT:
                sent, headers = self._event()
            case Sort.UNWANTED:
                sent, headers = self._unwanted(partition)
            case _:
                sent, headers = self._garbage(self._topics.inbox.name, partition)
        self._send(sent, headers, lambda offset: self._follow_up(sent, offset))

    def _start(self, partition: int) -> tuple[Sent, Headers]:
        workflow = self._dice.choice(("script", "script", "hurried"))
        key = self._dice.choice(("", "", "", "once", "twice"))
        order = self._order(twin=False)
        trigger = c.Trigger(
            name="",
            id="",
            workflow=workflow,
            payload=pydantic_core.to_json(order),
            payload_encoding="json",
            key_id="",
            idempotency_key=key,
            sent_at=0,
        )
        sent = Sent(
            sort=Sort.START,
            topic=self._topics.inbox.name,
            partition=partition,
            value=encode_command(trigger),
            workflows=(workflow,),
            plan=order,
            key=f"{workflow}\n{key}" if key else "",
        )
        return sent, []

    def _event(self) -> tuple[Sent, Headers]:
        dice = self._dice
        name, twin = dice.choice(("sim/go", "sim/both")), dice.random() < 0.5
        event_id = dice.choice((None, None, *IDS))
        order = self._order(twin=twin)
        # As a client does it: equal ids meet in one partition.
        place = dice.randrange(64) if event_id is None else IDS.index(event_id)
        body: dict[str, Any] = {"name": name, "data": order}
        headers: Headers = []
        if dice.random() < 0.2:
            headers = [("ce_specversion", b"1.0"), ("ce_type", name.encode())]
            headers += [("ce_id", event_id.encode())] if event_id else []
            body = order
        elif event_id:
            body["id"] = event_id
        sent = Sent(
            sort=Sort.EVENT,
            topic=self._topics.inbox.name,
            partition=place % self._topics.inbox.partitions,
            value=pydantic_core.to_json(body),
            workflows=("script", "twin") if name == "sim/both" and twin else ("script",),
            plan=order,
            key=f"\n{event_id}" if event_id else "",
        )
        return sent, headers

    def _order(self, *, twin: bool) -> dict[str, Any]:
        self._numbers += 1
        plan = random_plan(self._dice, deadly=self._deadly)
        return {"plan": plan, "number": self._numbers, "twin": twin}

    def _unwanted(self, partition: int) -> tuple[Sent, Headers]:
        value = pydantic_core.to_json({"name": "sim/nobody", "data": {}})
        topic = self._topics.inbox.name
        return Sent(sort=Sort.UNWANTED, topic=topic, partition=partition, value=value), []

    def _garbage(self, topic: str, partition: int) -> tuple[Sent, Headers]:
        value = self._dice.choice((b"\xc3\x01oops", b"[1]", b"{", b"\x00\x00\x00\x00\x01x"))
        return Sent(sort=Sort.GARBAGE, topic=topic, partition=partition, value=value), []

    # Control

    def _follow_up(self, sent: Sent, offset: int) -> None:
        """What clients do with the runs of a trigger, also before it was taken in."""
        dice = self._dice
        for number in range(len(sent.workflows)):
            short = short_topic_id(self._topics.inbox.topic_id)
            run_id = run_id_of(sent.partition, short, offset, number)
            for node in _signals(sent.plan["plan"]):
                if dice.random() < 0.8:
                    kind = node["type"] if dice.random() < 0.9 else "wrong"
                    self._later(self._signal, run_id, node["name"], kind)
            if dice.random() < 0.12:
                cancel = c.Cancel(run_id=run_id, by="client", reason="not needed")
                self._later(self._control, Sort.CANCEL, run_id, cancel)
            if dice.random() < 0.15:
                self._later(self._pause_then_resume, run_id)
            if dice.random() < 0.1:
                nudge = c.Nudge(run_id=run_id, epoch_offset=0, epoch_nonce=0, seq=0)
                self._later(self._control, Sort.NUDGE, run_id, nudge)
        if dice.random() < 0.05:
            self._later(self._signal, "not-a-run", "approval", "int")
        if dice.random() < 0.1:
            control = self._topics.control
            nonsense, headers = self._garbage(control.name, dice.randrange(control.partitions))
            self._send(nonsense, headers, lambda _: None)

    def _later(self, call: Callable[..., None], *values: Any) -> None:
        delay_us = 0 if self._dice.random() < 0.3 else int(FOLLOW_UP_US_MAX * self._dice.random())
        self._universe.after(delay_us, lambda: call(*values))

    def _signal(self, run_id: str, name: str, kind: str) -> None:
        self._numbers += 1
        value: Any = {"wrong": True}
        if kind != "wrong":
            value = self._numbers if kind == "int" else f"text {self._numbers}"
        signal = c.Signal(
            run_id=run_id,
            signal_id=f"signal-{self._numbers}",
            name=name,
            payload=pydantic_core.to_json(value),
            payload_encoding="json",
            key_id="",
        )
        self._control(Sort.SIGNAL, run_id, signal)

    def _pause_then_resume(self, run_id: str) -> None:
        self._control(Sort.PAUSE, run_id, c.Pause(run_id=run_id, by="client", reason=""))
        resume = c.Resume(run_id=run_id, by="client", reason="")
        self._later(self._control, Sort.RESUME, run_id, resume)

    def _control(self, sort: Sort, run_id: str, command: c.Control) -> None:
        partition = 0
        if run_id != "not-a-run":
            partition = _home_of(run_id)
        sent = Sent(
            sort=sort,
            topic=self._topics.control.name,
            partition=partition,
            value=encode_command(command),
            run_id=run_id,
        )
        if isinstance(command, c.Signal):
            sent.signal_id, sent.signal_name = command.signal_id, command.name
            sent.plan = pydantic_core.from_json(command.payload)
        self._send(sent, [], lambda _: None)

    # The wire

    def _send(self, sent: Sent, headers: Headers, on_ack: Callable[[int], None]) -> None:
        self._stage.sent.append(sent)
        self._try_to_send(sent, headers, on_ack)

    def _try_to_send(self, sent: Sent, headers: Headers, on_ack: Callable[[int], None]) -> None:
        storm = self._cluster.storm
        log = self._cluster.log(sent.topic, sent.partition)
        assert log is not None

        def land() -> None:
            if log.is_stalled:
                log.when_elected.append(land)
                return
            record = self._cluster.land(log, "client", b"", sent.value, headers)
            sent.offsets.append(record.offset)
            if storm.strikes(storm.weather.client_repeats):
                self._stage.fault("client", "client_repeats", sent.sort.value)
                self._try_to_send(sent, headers, on_ack)
                return
            self._universe.after(storm.latency_us(), lambda: acknowledge(record.offset))

        def acknowledge(offset: int) -> None:
            sent.is_acknowledged = True
            on_ack(offset)

        self._universe.after(storm.latency_us(), land)


def _signals(plan: Node) -> list[Node]:
    return [node for node in nodes(plan) if node["do"] == "signal"]


def _home_of(run_id: str) -> int:
    letters = "0123456789abcdefghjkmnpqrstvwxyz"
    value = 0
    for letter in run_id.split("-")[0]:
        value = value * len(letters) + letters.index(letter)
    return value
