"""Whatever is posted to the webhook, it is taken whole or refused with a sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

from hypothesis import given, settings
from hypothesis import strategies as st

from loadband.rebalance.alertmanager import Receiver, parse

instants = st.one_of(
    st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
    st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999-23:59", "0001-01-01T00:00:00+23:59", ""]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), instants),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
texts = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)
alerts = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["firing", "resolved"]) | values,
        "labels": texts | values,
        "annotations": texts | values,
        "startsAt": instants | values,
        "endsAt": instants | values,
        "fingerprint": st.text(max_size=9) | values,
    },
)
payloads = st.fixed_dictionaries({}, optional={"version": values, "alerts": st.lists(alerts, max_size=3) | values})
bodies = st.one_of(
    st.binary(max_size=200),
    values.map(lambda value: json.dumps(value).encode()),
    payloads.map(lambda value: json.dumps(value).encode()),
    st.text(alphabet='{}[]",:alertsE0123456789.eE+- \\u', max_size=60).map(str.encode),
)


@settings(max_examples=400, deadline=None)
@given(method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "HEAD", ""]), body=bodies)
def test_whatever_is_posted_is_taken_whole_or_refused(method: str, body: bytes) -> None:
    taken: list[Any] = []
    receiver = Receiver(lambda at, payload: taken.append((at, payload)))
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ |= {"REQUEST_METHOD": method, "wsgi.input": io.BytesIO(body)}
    answered: list[str] = []

    def start_response(line: str, _: list[tuple[str, str]], *_more: object) -> Callable[[bytes], object]:
        answered.append(line)
        return lambda _: None

    said = b"".join(receiver._application(environ, start_response))
    (status,) = answered
    assert status[:3] in {"200", "400", "405"}
    assert bool(taken) == status.startswith("200")
    if taken:
        ((at, payload),) = taken
        assert len(parse(at, payload)) == len(payload["alerts"])
    elif method == "POST":
        assert said.startswith(b"not a notification: ")
