"""The channel: who has the key is heard, who has not is refused, and nothing is left when it closes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

import pytest

from pytest_memleak.soak import channel as channels
from pytest_memleak.soak.channel import Channel, Message

PATIENCE_S = 10.0


@pytest.fixture
def channel() -> Iterator[Channel]:
    with Channel() as made:
        yield made


def call(channel: Channel) -> Connection[Any, Any]:
    return Client(channel.address, authkey=bytes.fromhex(channel.key))


def say(peer: Connection[Any, Any], **message: Any) -> None:
    peer.send_bytes(json.dumps(message).encode())


def heard(channel: Channel) -> Message:
    message = channel.next(PATIENCE_S)
    assert message is not None, "nothing was heard"
    return message


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("memleak-")]


def test_several_peers_are_told_apart_and_each_is_heard_in_its_order(channel: Channel) -> None:
    peers = [call(channel) for _ in range(5)]
    for number in range(20):
        for name, peer in enumerate(peers):
            say(peer, name=name, number=number)
    found: dict[int, list[tuple[int, int]]] = {}
    for _ in range(100):
        message = heard(channel)
        assert message.body is not None
        found.setdefault(message.peer, []).append((message.body["name"], message.body["number"]))
    assert len(found) == 5
    for told in found.values():
        assert told == [(told[0][0], number) for number in range(20)]
    for peer in peers:
        peer.close()


def test_nothing_said_is_none_in_time(channel: Channel) -> None:
    assert channel.next(0) is None
    assert channel.next(0.01) is None


def test_an_answer_reaches_its_peer_alone(channel: Channel) -> None:
    with call(channel) as one, call(channel) as other:
        say(one, kind="hello")
        peer = heard(channel).peer
        assert channel.send(peer, {"kind": "pace", "interval_s": 2})
        assert one.poll(PATIENCE_S)
        assert json.loads(one.recv_bytes()) == {"kind": "pace", "interval_s": 2}
        assert not other.poll(0.05)


def test_a_wrong_key_is_refused_and_the_others_are_heard_on(channel: Channel) -> None:
    for _ in range(3):
        with pytest.raises((AuthenticationError, EOFError, ConnectionError)):
            Client(channel.address, authkey=b"guessed")
    with call(channel) as peer:
        say(peer, kind="hello")
        assert heard(channel).body == {"kind": "hello"}
    assert heard(channel).body is None
    assert channel.next(0.05) is None, "somebody without the key was heard"


@pytest.mark.skipif(os.name != "posix", reason="a socket of the file system")
def test_who_dies_in_the_middle_of_the_greeting_stops_nobody(channel: Channel) -> None:
    import socket

    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as dying:
            dying.connect(channel.address)
    with call(channel) as peer:
        say(peer, kind="hello")
        assert heard(channel).body == {"kind": "hello"}


def test_a_message_that_is_no_json_is_skipped(channel: Channel) -> None:
    with call(channel) as peer:
        peer.send_bytes(b"\xff{")
        say(peer, kind="hello")
        assert heard(channel).body == {"kind": "hello"}


def test_one_who_has_gone_is_told_and_cannot_be_sent_to(channel: Channel) -> None:
    peer = call(channel)
    say(peer, kind="hello")
    number = heard(channel).peer
    peer.close()
    assert heard(channel) == Message(peer=number, body=None)
    eventually(lambda: not channel.send(number, {"kind": "rest"}))
    assert not channel.send(9_999, {"kind": "rest"})


def test_closing_hangs_up_on_all_and_ends_every_thread() -> None:
    before = ours()
    channel = Channel()
    folder = Path(channel.address).parent
    peers = [call(channel) for _ in range(3)]
    for peer in peers:
        say(peer, kind="hello")
        heard(channel)
    assert len(ours()) == len(before) + 4
    begun = time.monotonic()
    channel.close()
    assert time.monotonic() - begun < 1.0
    assert ours() == before
    assert not folder.exists()
    for peer in peers:
        with pytest.raises((EOFError, ConnectionError)):
            peer.recv_bytes()
        peer.close()


def test_a_channel_that_nobody_called_closes_at_once_and_twice() -> None:
    before = ours()
    for _ in range(50):
        channel = Channel()
        channel.close()
        channel.close()
    assert ours() == before


def test_a_harness_that_does_not_read_bounds_the_queue_and_still_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_MOST_QUEUED", 10)
    before = ours()
    with Channel() as channel, call(channel) as peer:
        for number in range(50):
            say(peer, number=number)
        eventually(channel.messages.full)
        first = [heard(channel).body for _ in range(50)]
        assert first == [{"number": number} for number in range(50)], "what waited for room was lost"
        for number in range(50):
            say(peer, number=number)
        eventually(channel.messages.full)
    assert ours() == before


def test_peers_that_come_and_go_leave_nothing(channel: Channel) -> None:
    for _ in range(30):
        with call(channel) as peer:
            say(peer, kind="hello")
            heard(channel)
        assert heard(channel).body is None
    eventually(lambda: not channel._peers)
    assert len(channel._listening) <= 2


def test_only_this_user_can_reach_the_channel(channel: Channel) -> None:
    if os.name == "posix":
        assert Path(channel.address).parent.stat().st_mode & 0o077 == 0
    assert len(bytes.fromhex(channel.key)) == 32
