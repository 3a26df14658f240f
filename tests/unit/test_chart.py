"""What the chart renders."""

from __future__ import annotations

import json
import os
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from chart import (
    CHART,
    CI_FILES,
    REGULATOR_FILES,
    container,
    environment,
    helm,
    of_kind,
    only,
    pods,
    read,
    regulator,
    render,
    selects,
)

from loadband.playback import ProfileFile
from loadband.settings import DEFAULT_PORT, Loaded, load

ci_files = pytest.mark.parametrize("file", REGULATOR_FILES, ids=lambda file: file.name)


@pytest.mark.parametrize("file", CI_FILES, ids=lambda file: file.name)
def test_lints(file: Path) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART, "--values", file)


@ci_files
def test_every_pod_passes_pod_security_restricted_and_can_be_evicted(file: Path) -> None:
    for _, spec in pods(render(None, "--values", file)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"} & spec.keys()
        # Local storage, even an empty volume, keeps the descheduler away.
        assert all(volume.keys() == {"name", "configMap"} for volume in spec.get("volumes", []))
        assert spec["automountServiceAccountToken"] is False
        for one in spec["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }
            assert one["resources"]["requests"].keys() == {"cpu", "memory"}
            assert "memory" in one["resources"]["limits"]
            assert not any("hostPort" in port for port in one.get("ports", []))


@ci_files
def test_selectors_find_the_regulators_and_not_the_pod_of_the_test(file: Path) -> None:
    objects = render(None, "--values", file)
    regulators, test = (metadata for metadata, _ in pods(objects))
    selectors = [only(objects, "Service")["spec"]["selector"]]
    if regulator(objects)["kind"] != "Job":
        selectors.append(regulator(objects)["spec"]["selector"]["matchLabels"])
    selectors += [one["spec"]["podSelector"]["matchLabels"] for one in of_kind(objects, "NetworkPolicy")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(objects, "PodDisruptionBudget")]
    selectors += [one["spec"]["selector"]["matchLabels"] for one in of_kind(objects, "PodMonitor")]
    for labels in selectors:
        assert selects(labels, regulators)
        assert not selects(labels, test)
    for one in of_kind(objects, "ServiceMonitor"):
        assert selects(one["spec"]["selector"]["matchLabels"], only(objects, "Service")["metadata"])


@ci_files
def test_the_program_understands_its_environment(file: Path) -> None:
    given = environment(render(None, "--values", file))
    with mock.patch.dict(os.environ, given, clear=True):
        loaded = load([])
    assert isinstance(loaded, Loaded)
    assert loaded.warnings == ()


def test_app_version_is_the_packages() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == version("loadband")


def test_a_bare_install_is_one_small_finite_slice() -> None:
    objects = render()
    assert {found["kind"] for found in objects} == {"Deployment", "Service", "Pod"}
    assert regulator(objects)["spec"]["replicas"] == 1
    assert environment(objects) == {
        "LOADBAND_MIN": "60",
        "LOADBAND_MAX": "70",
        "LOADBAND_SCOPE": "host",
        "LOADBAND_CONTROLLER": "adaptive",
        "LOADBAND_MAX_EFFORT": "200m",
        "LOADBAND_DURATION": "1h",
        "LOADBAND_ON_END": "idle",
    }
    assert container(objects)["resources"]["limits"]["cpu"] == "300m"


@pytest.mark.parametrize(
    ("values", "ceiling", "limit"),
    [
        ({}, "200m", "300m"),
        ({"maxEffort": "500m"}, "500m", "675m"),
        ({"maxEffort": "760m"}, "760m", "1"),
        ({"maxEffort": 1.5}, "1500m", "1925m"),
        ({"maxEffort": "none"}, None, None),
        ({"effort": "0.25"}, None, "363m"),
        ({"resources": {"limits": {"cpu": "500m"}}}, None, "500m"),
        ({"resources": {"limits": {"cpu": 2}}, "maxEffort": "1.5"}, "1500m", "2"),
        ({"scope": "container", "resources": {"limits": {"cpu": 1}}}, None, "1"),
        ({"kind": "Job"}, None, None),
        ({"kind": "Job", "maxEffort": "100m"}, "100m", "175m"),
        ({"kind": "DaemonSet", "allNodes": True}, None, None),
        ({"resources": None}, "200m", "300m"),
    ],
)
def test_the_cpu_limit_leaves_room_above_what_a_pod_may_burn(
    values: dict[str, Any], ceiling: str | None, limit: str | None
) -> None:
    objects = render(values)
    assert environment(objects).get("LOADBAND_MAX_EFFORT") == ceiling
    assert container(objects)["resources"]["limits"].get("cpu") == limit


@pytest.mark.parametrize(
    ("given", "rendered"),
    [("1000m", "1"), ("2000m", "2"), ("1500m", "1500m"), (0.25, "250m"), (1, "1"), ("0.0105", "11m"), ("", None)],
)
def test_amounts_of_cpu_are_as_the_api_server_writes_them(given: str | float, rendered: str | None) -> None:
    """Others would be rewritten there, and a GitOps tool would see a difference for ever."""
    resources = container(render({"resources": {"requests": {"cpu": given}}}))["resources"]
    assert resources["requests"].get("cpu") == rendered


def test_a_fixed_effort_has_no_band() -> None:
    found = environment(render({"effort": "0.25"}))
    assert found["LOADBAND_EFFORT"] == "250m"
    assert not {"LOADBAND_MIN", "LOADBAND_MAX", "LOADBAND_MAX_EFFORT"} & found.keys()


def test_a_latch_is_passed_on() -> None:
    assert environment(render({"latch": "90s"}))["LOADBAND_LATCH"] == "90s"


def test_a_profile_is_mounted_with_its_files_where_the_program_looks_for_it(tmp_path: Path) -> None:
    objects = render(None, "--values", CHART / "ci/profile-values.yaml")
    (mount,), spec = container(objects)["volumeMounts"], regulator(objects)["spec"]["template"]["spec"]
    (volume,) = spec["volumes"]
    config = only(objects, "ConfigMap")
    assert (volume["name"], volume["configMap"]["name"]) == (mount["name"], config["metadata"]["name"])
    found = environment(objects)
    assert not {"LOADBAND_MIN", "LOADBAND_MAX"} & found.keys()
    named = Path(found["LOADBAND_PROFILE"])
    assert str(named.parent) == mount["mountPath"]
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text)
    assert ProfileFile(tmp_path / named.name).load().seconds == 86400


def test_another_profile_makes_other_pods() -> None:
    annotations = [
        regulator(render({"profile": text, "podAnnotations": {"a": "b"}}))["spec"]["template"]["metadata"][
            "annotations"
        ]
        for text in ("x = 1", "x = 1", "x = 2")
    ]
    assert annotations[0] == annotations[1] != annotations[2]
    assert all(found["a"] == "b" for found in annotations)


def test_for_ever_has_no_end() -> None:
    found = environment(render({"duration": 0}))
    assert found["LOADBAND_DURATION"] == "0"
    assert "LOADBAND_ON_END" not in found


def test_numbers_stay_as_they_were_written() -> None:
    found = environment(render({"duration": 1000000, "band": {"min": 62.5}}))
    assert found["LOADBAND_DURATION"] == "1000000"
    assert found["LOADBAND_MIN"] == "62.5"


def test_a_job_is_one_finite_run_that_fails_when_the_band_was_not_held() -> None:
    objects = render({"kind": "Job", "duration": "1.5m", "replicas": 3})
    spec = regulator(objects)["spec"]
    assert (spec["parallelism"], spec["completions"], spec["backoffLimit"]) == (3, 3, 0)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    # Not of the Job: that would count the time before the pods are on a node.
    assert "activeDeadlineSeconds" not in spec
    assert spec["template"]["spec"]["activeDeadlineSeconds"] == 90 + 3600
    assert environment(objects)["LOADBAND_ON_END"] == "exit"


def test_another_job_has_another_name_because_a_job_cannot_be_changed() -> None:
    first, same, other = (
        regulator(render({"kind": "Job", "band": {"max": top}}))["metadata"]["name"] for top in (70, 70, 80)
    )
    assert first == same != other


def test_a_daemon_set_tolerates_nothing_by_itself() -> None:
    objects = render({"kind": "DaemonSet", "nodeSelector": {"pool": "hot"}})
    spec = regulator(objects)["spec"]["template"]["spec"]
    assert "tolerations" not in spec
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux", "pool": "hot"}
    assert "replicas" not in regulator(objects)["spec"]


@pytest.mark.parametrize("values", [{}, {"kind": "DaemonSet", "allNodes": True}], ids=["Deployment", "DaemonSet"])
def test_an_upgrade_never_burns_twice(values: dict[str, Any]) -> None:
    spec = regulator(render(values))["spec"]
    strategy = spec.get("strategy") or spec["updateStrategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"}}


def test_an_autoscaler_owns_the_number_of_pods() -> None:
    assert "replicas" not in regulator(render({"replicas": None}))["spec"]


def test_a_probe_has_time_on_a_saturated_node() -> None:
    found = container(render())
    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert found[probe]["httpGet"] == {"path": path, "port": "metrics"}
        assert found[probe]["timeoutSeconds"] == 5
    assert found["ports"] == [{"name": "metrics", "containerPort": DEFAULT_PORT}]


def test_service_links_stay_out_of_the_regulators_environment() -> None:
    (_, regulators), (_, test) = pods(render())
    assert regulators["enableServiceLinks"] is False
    assert test["enableServiceLinks"] is True


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"localhost/loadband:{version('loadband')}"),
        ({"registry": "", "tag": "x"}, "loadband:x"),
        ({"registry": "r:5000", "repository": "a/b", "digest": "sha256:" + "0" * 64}, "r:5000/a/b@sha256:" + "0" * 64),
    ],
)
def test_the_image(image: dict[str, str], reference: str) -> None:
    for _, spec in pods(render({"image": image})):
        assert spec["containers"][0]["image"] == reference


def test_common_labels_are_on_every_object_and_cannot_break_a_selector() -> None:
    common = {"team": "a", "app.kubernetes.io/name": "other", "app.kubernetes.io/component": "other"}
    objects = render(
        {
            "commonLabels": common,
            "podLabels": {"app.kubernetes.io/instance": "other", "mine": "yes"},
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
            "networkPolicy": {"enabled": True},
        }
    )
    assert all(found["metadata"]["labels"]["team"] == "a" for found in objects)
    metadata, _ = next(pods(objects))
    assert selects(regulator(objects)["spec"]["selector"]["matchLabels"], metadata)
    assert metadata["labels"]["mine"] == "yes"


@ci_files
def test_labels_that_the_chart_sets_itself_stay_its_own_and_come_once(file: Path) -> None:
    # `render` refuses a rendering that has a key twice.
    common = {"app.kubernetes.io/component": "other", "app.kubernetes.io/part-of": "other", "helm.sh/chart": "other"}
    objects = render({"commonLabels": common, "podLabels": common}, "--values", file)
    labels = [
        found["metadata"]["labels"] for found in objects if "helm.sh/chart" in found["metadata"].get("labels", {})
    ]
    assert labels
    assert {found["app.kubernetes.io/part-of"] for found in labels} == {"loadband"}
    assert only(objects, "Service")["metadata"]["labels"]["app.kubernetes.io/component"] == "regulator"
    assert only(objects, "Pod")["metadata"]["labels"]["app.kubernetes.io/component"] == "test"


def test_annotations_for_a_prometheus_that_goes_by_them() -> None:
    metadata, _ = next(pods(render({"prometheusAnnotations": True, "podAnnotations": {"a": "b"}})))
    assert metadata["annotations"] == {
        "a": "b",
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(DEFAULT_PORT),
        "prometheus.io/path": "/metrics",
    }


@pytest.mark.parametrize(
    ("kind", "value", "endpoints"),
    [
        ("ServiceMonitor", "serviceMonitor", "endpoints"),
        ("PodMonitor", "podMonitor", "podMetricsEndpoints"),
    ],
)
def test_a_monitor_names_the_node_and_takes_what_it_is_given(kind: str, value: str, endpoints: str) -> None:
    mine = {"sourceLabels": ["__address__"], "targetLabel": "address"}
    drop = {"sourceLabels": ["__name__"], "regex": "python_.*", "action": "drop"}
    found = only(
        render(
            {
                value: {
                    "enabled": True,
                    "namespace": "monitoring",
                    "additionalLabels": {"release": "kps"},
                    "interval": "5s",
                    "scrapeTimeout": "4s",
                    "relabelings": [mine],
                    "metricRelabelings": [drop],
                    "podTargetLabels": ["team"],
                }
            }
        ),
        kind,
    )
    assert found["metadata"]["namespace"] == "monitoring"
    assert found["metadata"]["labels"]["release"] == "kps"
    assert found["spec"]["namespaceSelector"] == {"matchNames": ["space"]}
    assert found["spec"]["podTargetLabels"] == ["team"]
    assert found["spec"][endpoints] == [
        {
            "port": "metrics",
            "path": "/metrics",
            "interval": "5s",
            "scrapeTimeout": "4s",
            # The API server would add the default action: a GitOps tool would see a difference for ever.
            "relabelings": [
                {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node", "action": "replace"},
                {**mine, "action": "replace"},
            ],
            "metricRelabelings": [drop],
        }
    ]


@pytest.mark.parametrize(
    ("value", "kind"),
    [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor"), ("prometheusRule", "PrometheusRule")],
)
def test_objects_of_the_operator_carry_annotations_for_gitops_tools(value: str, kind: str) -> None:
    annotations = {"argocd.argoproj.io/sync-options": "SkipDryRunOnMissingResource=true"}
    found = of_kind(render({value: {"enabled": True, "annotations": annotations}}), kind)
    assert found
    assert all(one["metadata"]["annotations"] == annotations for one in found)


def test_pods_may_have_another_scheduler_runtime_and_account() -> None:
    given = {"schedulerName": "load-aware", "runtimeClassName": "gvisor"}
    objects = render({**given, "serviceAccount": {"create": True, "annotations": {"a": "b"}}})
    account = only(objects, "ServiceAccount")
    assert account["metadata"]["annotations"] == {"a": "b"}
    assert account["automountServiceAccountToken"] is False
    for _, spec in pods(objects):
        assert {key: spec[key] for key in given} == given
        assert spec["serviceAccountName"] == account["metadata"]["name"]
        assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"terminationGracePeriodSeconds": 10}),
        ({"dnsPolicy": "Default"}, {"dnsPolicy": "Default", "terminationGracePeriodSeconds": 10}),
        (
            {"hostNetwork": True, "terminationGracePeriodSeconds": 30},
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", "terminationGracePeriodSeconds": 30},
        ),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirst"},
            {"hostNetwork": True, "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 10},
        ),
    ],
)
def test_network_and_end_of_a_pod(given: dict[str, Any], expected: dict[str, Any]) -> None:
    (_, spec), _ = pods(render(given))
    keys = ("hostNetwork", "dnsPolicy", "terminationGracePeriodSeconds")
    assert {key: spec[key] for key in keys if key in spec} == expected


@pytest.mark.parametrize("most", [1, "25%"])
def test_a_disruption_budget_is_for_the_slices_and_only_on_demand(most: int | str) -> None:
    assert of_kind(render(), "PodDisruptionBudget") == []
    objects = render({"podDisruptionBudget": {"enabled": True, "maxUnavailable": most}})
    spec = only(objects, "PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == most
    slices, test = (metadata for metadata, _ in pods(objects))
    assert selects(spec["selector"]["matchLabels"], slices)
    assert not selects(spec["selector"]["matchLabels"], test)


def test_an_account_that_exists_is_used_and_not_made() -> None:
    objects = render({"serviceAccount": {"name": "theirs"}})
    assert of_kind(objects, "ServiceAccount") == []
    assert [spec["serviceAccountName"] for _, spec in pods(objects)] == ["theirs", "theirs"]


def test_a_registry_and_secrets_that_a_parent_chart_shares_are_used() -> None:
    shared = {"imageRegistry": "mirror.example:5000", "imagePullSecrets": ["shared", {"name": "mine"}]}
    objects = render({"global": shared, "imagePullSecrets": [{"name": "mine"}]})
    for _, spec in pods(objects):
        assert spec["containers"][0]["image"] == f"mirror.example:5000/loadband:{version('loadband')}"
        assert spec["imagePullSecrets"] == [{"name": "mine"}, {"name": "shared"}]


def test_a_secret_can_be_mounted_as_the_control_token() -> None:
    (example,) = re.findall(r"```yaml\n(extraVolumes:.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    objects = render(yaml.safe_load(example) | {"profile": "x"})
    spec = regulator(objects)["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    assert [volume["name"] for volume in spec["volumes"]] == ["profile", "token"] == list(mounts)
    token = Path(environment(objects)["LOADBAND_CONTROL_TOKEN_FILE"])
    assert str(token.parent) == mounts["token"]
    assert "volumes" not in only(objects, "Pod")["spec"]


def test_the_alerts_job_is_that_of_the_monitors() -> None:
    """LoadbandDown goes by the label `job`, which a release's name must not change."""
    objects = render({"fullnameOverride": "x", "nameOverride": "y", "podMonitor": {"enabled": True}})
    metadata, _ = next(pods(objects))
    job = metadata["labels"][only(objects, "PodMonitor")["spec"]["jobLabel"]]
    (pattern,) = re.findall(r'up\{job=~"([^"]+)"', (CHART / "files/rules/regulators.yaml").read_text())
    assert re.fullmatch(pattern, job)
    objects = render({"fullnameOverride": "x", "nameOverride": "y", "serviceMonitor": {"enabled": True}})
    job = only(objects, "Service")["metadata"]["labels"][only(objects, "ServiceMonitor")["spec"]["jobLabel"]]
    assert re.fullmatch(pattern, job)


def test_rules_are_the_files() -> None:
    values = {"prometheusRule": {"enabled": True, "namespace": "m", "additionalLabels": {"release": "kps"}}}
    found = of_kind(render(values), "PrometheusRule")
    assert all(one["metadata"]["namespace"] == "m" and one["metadata"]["labels"]["release"] == "kps" for one in found)
    files = {file.stem: yaml.safe_load(file.read_text()) for file in CHART.glob("files/rules/*.yaml")}
    assert files
    rendered = {re.sub("^one-loadband-[0-9a-f]{8}-", "", one["metadata"]["name"]): one["spec"] for one in found}
    thresholds = [by_threshold(specs.pop("thresholds")) for specs in (rendered, files)]
    assert rendered == files
    assert thresholds[0] == thresholds[1]


def by_threshold(spec: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Record and expression by threshold, of a rules file with one group."""
    (group,) = spec["groups"]
    return {rule["labels"]["threshold"]: (rule["record"], rule["expr"]) for rule in group["rules"]}


def test_thresholds_are_values() -> None:
    values = {"prometheusRule": {"enabled": True, "thresholds": {"hostHot": 0.8, "hostsStddev": "0.05"}}}
    (found,) = (
        by_threshold(one["spec"])
        for one in of_kind(render(values), "PrometheusRule")
        if one["metadata"]["name"].endswith("-thresholds")
    )
    assert found == {
        "host_hot": ("loadband:threshold:ratio", "vector(0.8)"),
        "host_cool": ("loadband:threshold:ratio", "vector(0.2)"),
        "hosts_stddev": ("loadband:threshold:ratio", "vector(0.05)"),
        "held": ("loadband:threshold:ratio", "vector(0.9)"),
    }


def test_what_kube_prometheus_stack_records_itself_is_an_option() -> None:
    objects = render({"prometheusRule": {"enabled": True, "instanceNodeCpuRatio": True}})
    file = CHART / "files/rules/opt-in/instance-node-cpu-ratio.yaml"
    assert yaml.safe_load(file.read_text()) in [one["spec"] for one in of_kind(objects, "PrometheusRule")]


def test_dashboards_are_the_files() -> None:
    values = {"dashboards": {"enabled": True, "namespace": "m", "annotations": {"grafana_folder": "Load"}}}
    found = of_kind(render(values), "ConfigMap")
    for one in found:
        assert one["metadata"]["namespace"] == "m"
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"grafana_folder": "Load"}
    files = {file.stem: json.loads(file.read_text()) for file in CHART.glob("files/dashboards/*.json")}
    assert files
    rendered = {}
    for one in found:
        ((name, text),) = one["data"].items()
        board, ident = json.loads(text), name.removesuffix(".json").rpartition("-")[2]
        # What is of the release: the UID, which links name, too, and the title.
        plain = text.replace(f"-{ident}", "").replace(" (space/one)", "")
        assert board["uid"] == f"{json.loads(plain)['uid']}-{ident}"
        assert board["title"].endswith(" (space/one)")
        assert f"/d/loadband-regulator-{ident}?" in text or "/d/" not in text
        rendered[name.removesuffix(f"-{ident}.json")] = json.loads(plain)
    assert rendered == files


def test_two_releases_share_no_dashboard() -> None:
    """Grafana's sidecar removes the file of a ConfigMap that is gone, whichever other has the same key."""
    values = json.dumps({"dashboards": {"enabled": True}})
    both = []
    for release, namespace in (("one", "space"), ("two", "space"), ("one", "other")):
        text = helm("template", release, CHART, "--namespace", namespace, values=json.loads(values))
        data = [one["data"] for one in of_kind(read(text), "ConfigMap")]
        both += [
            (name, json.loads(text)["uid"], json.loads(text)["title"]) for one in data for name, text in one.items()
        ]
    for column in zip(*both, strict=True):
        assert len(set(column)) == len(both) == 9
    assert all(len(uid) <= 40 for _, uid, _ in both)


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("dashboards", {"ConfigMap"}),
        ("podMonitor", {"PodMonitor"}),
        ("prometheusRule", {"PrometheusRule"}),
        ("rebalance", {"Role", "RoleBinding"}),
        ("serviceMonitor", {"ServiceMonitor"}),
    ],
)
def test_two_releases_of_one_name_share_no_object_in_a_third_namespace(part: str, kinds: set[str]) -> None:
    values: dict[str, Any] = {part: {"enabled": True, "namespace": "there"}}
    if part == "rebalance":
        values[part]["prometheus"] = "http://prometheus:9090"
    both = []
    for namespace in ("one", "other"):
        objects = read(helm("template", "same", CHART, "--namespace", namespace, values=values))
        both += [
            (one["kind"], one["metadata"]["name"]) for one in objects if one["metadata"].get("namespace") == "there"
        ]
        assert all(("Role", one["roleRef"]["name"]) in both for one in of_kind(objects, "RoleBinding"))
    assert {kind for kind, _ in both} == kinds
    assert len(set(both)) == len(both)


@pytest.mark.parametrize("namespace", ["", "space"])
def test_an_object_in_the_namespace_of_its_release_has_its_name_only(namespace: str) -> None:
    monitor = only(render({"serviceMonitor": {"enabled": True, "namespace": namespace}}), "ServiceMonitor")
    assert monitor["metadata"]["name"] == "one-loadband"


def test_a_network_policy_lets_in_who_asks_for_metrics_only() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    objects = render({"networkPolicy": {"enabled": True, "from": [peer]}})
    spec = only(objects, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in spec
    (rule,) = spec["ingress"]
    assert rule["ports"] == [{"port": "metrics"}]
    test, mine = rule["from"]
    assert mine == peer
    regulators, pod_of_the_test = (metadata for metadata, _ in pods(objects))
    assert selects(test["podSelector"]["matchLabels"], pod_of_the_test)
    assert not selects(test["podSelector"]["matchLabels"], regulators)


def test_extra_manifests_are_rendered_objects_and_texts() -> None:
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-a"}},
        'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include "loadband.fullname" . }}-b\n',
    ]
    found = of_kind(render({"extraManifests": maps}), "ConfigMap")
    assert {one["metadata"]["name"] for one in found} == {"one-a", "one-loadband-b"}


def test_serves_as_a_subchart(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text(
        "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
        "dependencies: [{name: loadband, version: '*', condition: loadband.enabled}]\n"
    )
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts/loadband").symlink_to(CHART)
    values: dict[str, Any] = {"global": {"region": "x"}, "loadband": {"enabled": True, "band": {"max": 75}}}
    assert environment(render(values, chart=tmp_path))["LOADBAND_MAX"] == "75"
    values["loadband"]["enabled"] = False
    assert render(values, chart=tmp_path) == []


def test_serves_as_a_package(tmp_path: Path) -> None:
    """What is left out of a package isn't needed to render."""
    helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.iterdir()
    assert render(chart=package) == render()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "At most 0.20 CPU-hours in total (1 x 200m x 1h)."),
        ({"effort": "250m", "replicas": 4, "duration": 0}, "At most 1.00 CPU-hours in each hour, without end"),
        (
            {"scope": "container", "resources": {"limits": {"cpu": 2}}, "duration": "30m"},
            "At most 0.70 CPU-hours in total",
        ),
        ({"maxEffort": "none"}, "At most 0.70 CPU-hours for each CPU of each node"),
        ({"maxEffort": "2", "replicas": None, "duration": "30m"}, "At most 1.00 CPU-hours for each pod."),
        ({"kind": "DaemonSet", "allNodes": True, "maxEffort": 1}, "At most 1.00 CPU-hours for each pod."),
        ({"kind": "Job"}, "Then it ends; it fails if the band was not held."),
        ({"latch": "2m"}, "After 2m it latches: it becomes an ordinary load of the size that it has by then."),
        ({}, "kubectl --namespace space port-forward service/one-loadband 10670"),
        ({}, "helm uninstall one --namespace space"),
    ],
)
def test_notes_say_what_it_burns_and_how_to_see_and_stop_it(values: dict[str, Any], sentence: str) -> None:
    assert sentence in helm("install", "one", CHART, "--namespace", "space", "--dry-run=client", values=values)
