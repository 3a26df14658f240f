"""What a GitOps tool would show as out of sync: fields that the API server keeps in another form than is rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chart import Object


def drift(rendered: Sequence[Object], kept: Sequence[Object]) -> list[str]:
    """A line for each field that differs.

    Hooks are left out, which such tools don't compare. They know the defaults that the API server adds to built-in
    objects, but not those of custom resources.

    Raises:
        KeyError: an object isn't kept at all.
    """
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in kept}
    return [
        line
        for one in rendered
        if "helm.sh/hook" not in one["metadata"].get("annotations", {})
        for line in _differences(one, by_name[one["kind"], one["metadata"]["name"]], one["kind"], custom=_custom(one))
    ]


def _custom(one: Object) -> bool:
    """Whether an object is of a CRD's kind: only Kubernetes' own groups have no dot, or end in k8s.io."""
    group, slash, _ = one["apiVersion"].rpartition("/")
    return bool(slash) and "." in group and not group.endswith(".k8s.io")


def _differences(rendered: object, kept: object, where: str, *, custom: bool) -> Iterator[str]:
    if isinstance(rendered, dict) and isinstance(kept, dict):
        for key, value in rendered.items():
            if key in kept:
                yield from _differences(value, kept[key], f"{where}.{key}", custom=custom and key != "metadata")
            else:
                yield f"{where}.{key}: {value!r} is dropped"
        if custom and where.count("."):
            yield from (f"{where}.{key}: {kept[key]!r} is added" for key in kept.keys() - rendered.keys())
    elif isinstance(rendered, list) and isinstance(kept, list) and len(rendered) == len(kept):
        for place, (one, other) in enumerate(zip(rendered, kept, strict=True)):
            yield from _differences(one, other, f"{where}[{place}]", custom=custom)
    elif type(rendered) is not type(kept) or rendered != kept:
        yield f"{where}: {rendered!r} becomes {kept!r}"
