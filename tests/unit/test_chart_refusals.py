"""What the chart refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest
from chart import Refused, render

LIMIT = {"limits": {"cpu": "200m"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        # What no value means: the schema's.
        ({"bnad": {}}, "additional properties 'bnad' not allowed"),
        ({"band": {"low": 1}}, "at '/band': additional properties 'low' not allowed"),
        ({"podMonitor": {"enable": True}}, "at '/podMonitor': additional properties 'enable' not allowed"),
        ({"prometheusRule": {"thresholds": {"hot": 1}}}, "additional properties 'hot' not allowed"),
        ({"kind": "Pod"}, "at '/kind': value must be one of 'Deployment', 'DaemonSet', 'Job'"),
        ({"scope": "node"}, "at '/scope': value must be one of 'host', 'cpuset', 'container'"),
        ({"controller": "pid"}, "at '/controller': value must be one of 'adaptive', 'step'"),
        ({"replicas": -1}, "at '/replicas': minimum: got -1, want 0"),
        ({"replicas": "2"}, "at '/replicas': got string, want"),
        ({"band": {"min": -1}}, "at '/band/min': minimum: got -1, want 0"),
        ({"band": {"max": 101}}, "at '/band/max': maximum: got 101, want 100"),
        ({"band": {"max": "101"}}, "at '/band/max': '101' does not match pattern"),
        ({"band": None}, "missing property 'band'"),
        ({"effort": "1 CPU"}, "at '/effort': '1 CPU' does not match pattern"),
        ({"maxEffort": "0m"}, "at '/maxEffort'"),
        ({"maxEffort": -1}, "at '/maxEffort'"),
        ({"resources": {"limits": {"cpu": "1k"}}}, "at '/resources/limits/cpu': '1k' does not match pattern"),
        ({"duration": "1d"}, "at '/duration': '1d' does not match pattern"),
        ({"duration": ""}, "at '/duration': '' does not match pattern"),
        ({"latch": "soon"}, "at '/latch': 'soon' does not match pattern"),
        ({"image": {"digest": "latest"}}, "at '/image/digest': 'latest' does not match pattern"),
        ({"image": {"pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
        ({"extraEnv": {"LOADBAND_NICE": "5"}}, "at '/extraEnv': got object, want array"),
        ({"prometheusRule": {"thresholds": {"hostHot": 75}}}, "at '/prometheusRule/thresholds/hostHot': maximum"),
        ({"dnsPolicy": "None"}, "at '/dnsPolicy': value must be one of"),
        ({"terminationGracePeriodSeconds": 0}, "at '/terminationGracePeriodSeconds': minimum: got 0, want 1"),
        ({"podDisruptionBudget": {"maxUnavailable": "some"}}, "at '/podDisruptionBudget/maxUnavailable'"),
        # What contradicts something else: the chart's own sentences.
        (
            {"podDisruptionBudget": {"enabled": True}, "kind": "Job"},
            "podDisruptionBudget is about slices, and a Job has none",
        ),
        ({"hostNetwork": True, "networkPolicy": {"enabled": True}}, "a NetworkPolicy doesn't apply to pods with host"),
        ({"band": {"min": 80}}, "band.min (80) must be less than band.max (70)"),
        ({"band": {"min": 70}}, "band.min (70) must be less than band.max (70)"),
        ({"kind": "DaemonSet"}, "a DaemonSet without a nodeSelector would load every node of the cluster"),
        ({"kind": "Job", "duration": 0}, "a Job is a finite run: set duration"),
        ({"latch": "1m", "effort": 1}, "set either latch or effort"),
        ({"profile": "x", "effort": 1}, "set either profile or effort"),
        ({"profile": "x", "latch": "1m"}, "set either profile or latch"),
        ({"profileFiles": {"load.csv": "0,1"}}, "profileFiles without a profile: set profile"),
        ({"profile": 1}, "at '/profile': got number, want string"),
        (
            {"extraEnv": [{"name": "LOADBAND_PROFILE", "value": "x"}]},
            "extraEnv has LOADBAND_PROFILE: set the value profile",
        ),
        ({"latch": "500ms"}, "latch (500ms) must be at least 1s"),
        ({"latch": "1h"}, "latch (1h) must be shorter than duration (1h)"),
        ({"scope": "container"}, "set resources.limits.cpu"),
        ({"effort": "250m", "resources": LIMIT}, "resources.limits.cpu (200m) is below effort (250m)"),
        ({"maxEffort": 0.25, "resources": LIMIT}, "resources.limits.cpu (200m) is below maxEffort (0.25)"),
        (
            {"scope": "container", "maxEffort": 1, "resources": LIMIT},
            "resources.limits.cpu (200m) is below maxEffort (1)",
        ),
        ({"effort": 1, "maxEffort": "500m"}, "maxEffort (500m) is below effort (1)"),
        ({"extraEnv": [{"name": "LOADBAND_MIN", "value": "5"}]}, "extraEnv has LOADBAND_MIN: set the value band.min"),
        *(
            ({"extraEnv": [{"name": "LOADBAND_LISTEN", **value}]}, "extraEnv has LOADBAND_LISTEN")
            for value in ({"value": "off"}, {"value": "[::]:80"}, {"value": "127.0.0.1:10670"}, {})
        ),
        (
            {"profile": "x", "extraVolumes": [{"name": "profile", "secret": {"secretName": "x"}}]},
            "extraVolumes has a volume called profile",
        ),
        (
            {
                "profile": "x",
                "extraVolumeMounts": [{"name": "more", "mountPath": "/etc/loadband/"}],
            },
            "extraVolumeMounts has the path /etc/loadband, which is the profile's",
        ),
        (
            {"serviceAccount": {"annotations": {"role": "load"}}},
            "serviceAccount.annotations without serviceAccount.create",
        ),
        ({"extraVolumes": [{"secret": {}}]}, "at '/extraVolumes/0': missing property 'name'"),
        ({"serviceAccount": {"creat": True}}, "at '/serviceAccount': additional properties 'creat' not allowed"),
        ({"global": {"imageRegistry": 1}}, "at '/global/imageRegistry': got number, want string"),
        (
            {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
            "serviceMonitor and podMonitor together would scrape each pod twice",
        ),
    ],
)
def test_bad_values_are_refused_with_a_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    assert message in str(refused.value)


def test_all_contradictions_are_said_at_once() -> None:
    with pytest.raises(Refused) as refused:
        render({"kind": "Job", "duration": 0, "scope": "container", "band": {"min": 90}})
    assert str(refused.value).count("\n- ") == 3


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "DaemonSet", "allNodes": True},
        {"kind": "DaemonSet", "nodeSelector": {"pool": "hot"}},
        {
            "kind": "DaemonSet",
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
        },
        {"effort": "200m", "resources": LIMIT},
        {"effort": "250m", "band": {"min": 90}},
        {"profile": "x", "band": {"min": 90}},
        {"latch": "1h", "duration": 0},
        {"extraEnv": [{"name": "LOADBAND_LISTEN", "value": "[::]:10670"}]},
        {"extraEnv": [{"name": "LOADBAND_LISTEN", "value": "0.0.0.0:10670"}]},
        {"nodeSelector": None, "affinity": None, "tolerations": None, "podLabels": None, "maxEffort": None},
    ],
)
def test_what_looks_alike_and_is_right_is_rendered(values: dict[str, Any]) -> None:
    assert render(values)
