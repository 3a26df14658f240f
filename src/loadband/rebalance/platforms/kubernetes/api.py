"""The API server: what is made there, and what is seen there by watches. All of lightkube is in here."""

from __future__ import annotations

import queue
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import httpx2
from lightkube import ALL_NS, ApiError, Client, ConfigError
from lightkube.codecs import from_dict
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.client import LabelValue
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from lightkube.resources.apps_v1 import ReplicaSet
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
from lightkube.types import CascadeType, PatchType

from loadband.rebalance.platforms import PlatformError
from loadband.rebalance.platforms.kubernetes.cluster import RefusedError, Seen
from loadband.rebalance.platforms.kubernetes.manifests import RUN_LABEL, Manifest
from loadband.rebalance.platforms.kubernetes.states import (
    NodeState,
    Workload,
    eviction_of,
    node_of,
    pod_of,
    workload_of,
)

MANAGER = "loadband-rebalance"
"""The field manager, as the API server remembers who changed what."""
KubernetesEvent = create_namespaced_resource("events.k8s.io", "v1", "Event", "events")
"""As it comes: lightkube's own class insists on fields that the kubelet leaves out."""
RawPod = create_namespaced_resource("", "v1", "Pod", "pods")
"""As it comes: of everybody's pods there are so many that making objects of them would cost more than all the rest."""
AGAIN = 0.5
"""Seconds until a list or watch that failed is begun again."""
CHUNK = 500
"""Objects in an answer to a list."""
PODS, EVENTS, NODES = "pods", "events", "nodes"
"""The watches."""
MISSING = 404
"""The HTTP status for what isn't there."""


def connect(namespace: str) -> Server:
    """The API server of KUBECONFIG, or of the cluster that this runs in.

    Args:
        namespace: where the slices are.

    Raises:
        PlatformError: there is no configuration, or it can't be read.
    """
    try:
        config = KubeConfig.from_env().get()
        assert config, "no context"  # noqa: S101 - it raises ConfigError then, and is only declared to return None
        if config.user is None:  # as kubectl does: the server says what it allows to anybody
            config = config._replace(user=User())
        client = Client(config, namespace=namespace, field_manager=MANAGER, transport=transport_of(config))
    except (ConfigError, OSError, KeyError, ValueError) as error:
        raise PlatformError(f"there is no cluster: set KUBECONFIG to a file that kubectl takes ({error})") from error
    return Server(client)


def transport_of(config: SingleConfig) -> httpx2.BaseTransport:
    """How to reach the API server: with the configuration's certificates, through a proxy of the environment, if any.

    From 3.13 on Python refuses a certificate authority without all extensions of RFC 5280 (`VERIFY_X509_STRICT`). Many
    clusters have such a one, and other clients of Kubernetes take it: so does this one.
    """
    context = verify_cluster(config.cluster, config.user or User(), config.abs_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    to = urllib.parse.urlsplit(config.cluster.server)
    by = None if urllib.request.proxy_bypass(to.hostname or "") else urllib.request.getproxies().get(to.scheme)
    return httpx2.HTTPTransport(verify=context, proxy=by)


class Server:
    """See `Api` and `Watching`.

    Args:
        client: with the namespace of the slices.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ended = threading.Event()

    def nodes(self, labels: str) -> Sequence[NodeState]:
        """See `Api`."""
        found = _asked(lambda: list(self._client.list(Node, labels=_selector(labels))))
        return sorted((node_of(one.to_dict()) for one in found), key=lambda one: one.name)

    def create(self, manifest: Manifest) -> str:
        """See `Api`."""
        made: Any = from_dict(dict(manifest))
        return str(_asked(lambda: self._client.create(made)).metadata.uid)

    def patch_owner(self, name: str, change: Manifest, *, strategic: bool = False) -> None:
        """See `Api`."""
        kind = PatchType.STRATEGIC if strategic else PatchType.MERGE
        _asked(lambda: self._client.patch(ReplicaSet, name, dict(change), patch_type=kind))

    def evict(self, name: str, uid: str) -> None:
        """See `Api`."""
        options = DeleteOptions(preconditions=Preconditions(uid=uid))
        metadata = ObjectMeta(name=name, namespace=self._client.namespace)
        _asked(lambda: self._client.create(Pod.Eviction(metadata=metadata, deleteOptions=options), name))

    def remove_owner(self, name: str) -> None:
        """See `Api`."""
        with suppress(_MissingError):
            _asked(lambda: self._client.delete(ReplicaSet, name, cascade=CascadeType.BACKGROUND))

    def remove_pod(self, name: str) -> None:
        """See `Api`."""
        with suppress(_MissingError):
            _asked(lambda: self._client.delete(Pod, name))

    def remove_all(self, run: str) -> None:
        """See `Api`."""
        for kind, names in self._found(run).items():
            for name in names:
                with suppress(_MissingError):
                    _asked(partial(self._client.delete, kind, name, cascade=CascadeType.BACKGROUND))

    def left(self, run: str) -> Sequence[str]:
        """See `Api`."""
        return [f"{kind.__name__.lower()}/{name}" for kind, names in self._found(run).items() for name in names]

    def _found(self, run: str) -> Mapping[type[Job | Pod | ReplicaSet], Sequence[str]]:
        """The names of all that carries a run's label, owners first: they would replace their pods."""
        found: dict[type[Job | Pod | ReplicaSet], Sequence[str]] = {}
        for kind in (ReplicaSet, Pod, Job):
            found[kind] = _asked(partial(self._names, kind, run))
        return found

    def _names(self, kind: type[Job | Pod | ReplicaSet], run: str) -> Sequence[str]:
        objects: Iterable[Any] = self._client.list(kind, labels={RUN_LABEL: run})
        return [str(one.to_dict()["metadata"]["name"]) for one in objects]

    def workload(self, namespace: str, labels: str) -> Workload:
        """See `Api`."""
        selector = _selector(labels)
        pods = _asked(lambda: list(self._client.list(Pod, namespace=namespace, labels=selector)))
        maps = _asked(lambda: list(self._client.list(ConfigMap, namespace=namespace))) if pods else []
        configuration = {one["metadata"]["name"]: one for one in (each.to_dict() for each in maps)}
        return workload_of([one.to_dict() for one in pods], configuration)

    # Watches

    def follow(self, run: str, nodes: str) -> queue.SimpleQueue[Seen]:
        """See `Api`."""
        found: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        follows: Mapping[str, Callable[[], None]] = {
            PODS: lambda: self._follow_pods({RUN_LABEL: run}, found),
            EVENTS: lambda: self._follow_events(found),
            NODES: lambda: self._follow_nodes(_selector(nodes), found),
        }
        for watch, follow in follows.items():
            threading.Thread(target=self._again, args=(watch, follow, found), daemon=True).start()
        return found

    def follow_all(self, namespaces: Sequence[str], nodes: str) -> queue.SimpleQueue[Seen]:
        """See `Watching`."""
        found: queue.SimpleQueue[Seen] = queue.SimpleQueue()
        follows: dict[str, Callable[[], None]] = {NODES: lambda: self._follow_nodes(_selector(nodes), found)}
        for namespace in namespaces or [""]:
            of = f" of {namespace}" if namespace else ""
            follows[PODS + of] = partial(self._follow_everybody, namespace, PODS + of, found)
            follows[EVENTS + of] = partial(self._follow_events, found, namespace or ALL_NS, EVENTS + of)
        for watch, follow in follows.items():
            threading.Thread(target=self._again, args=(watch, follow, found), daemon=True).start()
        return found

    def _follow_everybody(self, namespace: str, watch: str, found: queue.SimpleQueue[Seen]) -> None:
        """Follow all pods of a namespace, or of all."""
        where = namespace or ALL_NS
        listed = self._client.list(RawPod, namespace=where, chunk_size=CHUNK)
        pods = [pod_of(one) for one in listed]
        found.put(Seen(time.time(), pods=pods, whole=True, watch=watch, namespace=namespace))
        for kind, one in self._client.watch(RawPod, namespace=where, resource_version=listed.resourceVersion):
            pods = [pod_of(one)]
            found.put(Seen(time.time(), gone=pods) if kind == "DELETED" else Seen(time.time(), pods=pods))

    def _again(self, watch: str, follow: Callable[[], None], found: queue.SimpleQueue[Seen]) -> None:
        """Follow until the end, whatever happens: after an error everything is listed again."""
        while not self._ended.is_set():
            try:
                follow()
            except Exception as error:  # noqa: BLE001 - whatever it is: nothing is seen, which is told, and tried again
                # A watch that is too old (410) and a server that restarts are the same: what was missed is listed.
                if not self._ended.is_set():
                    found.put(Seen(time.time(), watch=watch, trouble=str(error) or type(error).__name__))
            self._ended.wait(AGAIN)

    def _follow_pods(self, labels: dict[str, LabelValue], found: queue.SimpleQueue[Seen]) -> None:
        listed = self._client.list(Pod, labels=labels)
        found.put(Seen(time.time(), pods=[pod_of(one.to_dict()) for one in listed], whole=True, watch=PODS))
        for kind, one in self._client.watch(Pod, labels=labels, resource_version=listed.resourceVersion):
            pods = [pod_of(one.to_dict())]
            found.put(Seen(time.time(), gone=pods) if kind == "DELETED" else Seen(time.time(), pods=pods))

    def _follow_events(self, found: queue.SimpleQueue[Seen], namespace: str | None = None, watch: str = EVENTS) -> None:
        listed = self._client.list(KubernetesEvent, namespace=namespace, chunk_size=CHUNK)
        evictions = [eviction_of(dict(one)) for one in listed]
        found.put(Seen(time.time(), evictions=[each for each in evictions if each], watch=watch))
        for _, one in self._client.watch(KubernetesEvent, namespace=namespace, resource_version=listed.resourceVersion):
            if eviction := eviction_of(dict(one)):
                found.put(Seen(time.time(), evictions=[eviction]))

    def _follow_nodes(self, labels: dict[str, LabelValue], found: queue.SimpleQueue[Seen]) -> None:
        listed = self._client.list(Node, labels=labels)
        states = {state.name: state for state in (node_of(one.to_dict()) for one in listed)}
        found.put(Seen(time.time(), nodes=list(states.values()), watch=NODES))
        for kind, one in self._client.watch(Node, labels=labels, resource_version=listed.resourceVersion):
            state = node_of(one.to_dict())
            if kind == "DELETED":
                states.pop(state.name, None)
            else:
                states[state.name] = state
            found.put(Seen(time.time(), nodes=list(states.values())))

    def close(self) -> None:
        """See `Api`."""
        self._ended.set()
        self._client.close()


class _MissingError(RefusedError):
    """There is no such object."""


_Answer = TypeVar("_Answer")


def _asked(ask: Callable[[], _Answer]) -> _Answer:
    """The answer to a request, its errors made ours."""
    try:
        return ask()
    except ApiError as error:
        code = error.status.code or 0
        raise (_MissingError if code == MISSING else RefusedError)(code, error.status.message or str(error)) from error
    except httpx2.HTTPError as error:
        raise OSError(f"the API server doesn't answer: {error or type(error).__name__}") from error


def _selector(labels: str) -> dict[str, LabelValue]:
    """A label selector with equality and existence: `pool=test,kubernetes.io/os=linux,big`."""
    found: dict[str, LabelValue] = {}
    for part in filter(None, (each.strip() for each in labels.split(","))):
        name, sign, value = part.partition("=")
        found[name] = value.lstrip("=") if sign else None
    return found
