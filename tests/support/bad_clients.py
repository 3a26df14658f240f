"""Clients that misbehave towards an HTTP server, each in a way of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import urllib.parse
from collections.abc import Callable


def peer(server_address: str) -> tuple[str, int]:
    url = urllib.parse.urlsplit(server_address)
    assert url.hostname
    assert url.port
    return url.hostname, url.port


def silent(_: socket.socket, __: threading.Event) -> None:
    """Say nothing."""


def half_a_request(client: socket.socket, _: threading.Event) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost:")


def trickled_header(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    while not stop.wait(0.02):
        client.sendall(b"a")


def endless_header(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\n")
    while not stop.wait(0.02):
        client.sendall(b"X: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 100)


def huge_body(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"POST /metrics HTTP/1.1\r\nContent-Length: 10000000000\r\n\r\n")
    while not stop.wait(0.02):
        client.sendall(bytes(65536))


def endless_chunks(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"POST /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not stop.wait(0.02):
        client.sendall(b"1000\r\n" + bytes(4096) + b"\r\n")


def garbage(client: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.02):
        client.sendall(os.urandom(4096))


def many_at_once_never_read(client: socket.socket, _: threading.Event) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.sendall(b"GET /metrics HTTP/1.1\r\nAccept: */*\r\n\r\n" * 1000)


def urgent(client: socket.socket, _: threading.Event) -> None:
    client.send(b"!", socket.MSG_OOB)


def gone_before_the_answer(client: socket.socket, stop: threading.Event) -> None:
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    client.close()
    stop.wait(0.05)


BAD_CLIENTS = (
    silent,
    half_a_request,
    trickled_header,
    endless_header,
    huge_body,
    endless_chunks,
    garbage,
    many_at_once_never_read,
    urgent,
    gone_before_the_answer,
)


def misbehave(behave: Callable[[socket.socket, threading.Event], None], address: str, stop: threading.Event) -> None:
    """Be a bad client, again and again."""
    while not stop.is_set():
        with contextlib.suppress(OSError), socket.create_connection(peer(address), timeout=1) as client:
            behave(client, stop)
            client.settimeout(0.2)
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    if not client.recv(1):
                        break
        stop.wait(0.02)
