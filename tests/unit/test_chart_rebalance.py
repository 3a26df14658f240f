"""What the chart renders for a run of `loadband rebalance` in the cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from chart import CHART, Object, Refused, helm, of_kind, only, read, render, selects

from loadband.rebalance import cli
from loadband.rebalance.platforms.kubernetes.manifests import Makings

FILE = CHART / "ci/rebalance-values.yaml"
LEAST = {"enabled": True, "namespace": "slices", "prometheus": "http://prometheus:9090"}


def rendered(**values: Any) -> list[Object]:
    """The objects of a run with few values, and others."""
    return render({"rebalance": LEAST | values})


def pod(objects: list[Object]) -> Object:
    """The spec of the pod that runs the scenario."""
    found = (only(objects, "CronJob")["spec"]["jobTemplate"]) if of_kind(objects, "CronJob") else only(objects, "Job")
    return dict(found["spec"]["template"]["spec"])


def command(spec: Object) -> list[str]:
    """What its one container gives to the image's entrypoint."""
    (one,) = spec["containers"]
    return list(one["args"])


def test_it_is_off_by_default() -> None:
    objects = render()
    assert not {"Role", "ClusterRole", "Job", "CronJob", "ServiceAccount"} & {one["kind"] for one in objects}


def test_it_runs_a_shipped_scenario_once_and_no_regulators() -> None:
    objects = rendered()
    assert sorted(one["kind"] for one in objects) == [
        "ClusterRole",
        "ClusterRoleBinding",
        "Job",
        "Pod",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ]
    assert command(pod(objects)) == shlex.split(
        "rebalance run hot-host --platform kubernetes --namespace slices --image localhost/loadband:0.2.0 "
        "--prometheus http://prometheus:9090"
    )
    assert only(objects, "Job")["spec"]["backoffLimit"] == 0
    assert pod(objects)["restartPolicy"] == "Never"


def test_each_value_is_a_flag_that_the_program_knows(capsys: pytest.CaptureFixture[str]) -> None:
    words = command(pod(render(None, "--values", FILE)))
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given == {
        "--platform": "kubernetes",
        "--namespace": "slices",
        "--image": "localhost/loadband:0.2.0",
        "--nodes": "pool=test",
        "--prometheus": "http://prometheus.monitoring.svc:9090",
        "--alertmanager": "http://alertmanager.monitoring.svc:9093",
        "--rebalancer": "koord-descheduler",
        "--descheduler": "kube-system/koord-app=koord-descheduler",
        "--scheduler": "trimaran",
        "--repeats": "3",
    }
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"], lambda _: True)
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert given.keys() | {"--dry-run"} <= flags


def test_its_own_scenario_is_mounted_where_the_command_line_says_and_is_a_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = render(None, "--values", FILE)
    config, spec = only(objects, "ConfigMap"), pod(objects)
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    (volume,) = (one for one in spec["volumes"] if "configMap" in one)
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    name = Path(command(spec)[2])
    assert str(name.parent) == mounts[volume["name"]]
    (tmp_path / name.name).write_text(config["data"][name.name])
    assert cli.main(["check", str(tmp_path / name.name)], lambda _: True) == 0, capsys.readouterr().err


def test_another_scenario_makes_another_job() -> None:
    first, same, other = (
        only(rendered(scenarioFile=text), "Job")["metadata"]["name"] for text in ("a = 1", "a = 1", "a = 2")
    )
    assert first == same != other


def test_a_schedule_makes_it_a_cron_job_that_never_runs_twice_at_once() -> None:
    objects = render(None, "--values", FILE)
    assert of_kind(objects, "Job") == []
    spec = only(objects, "CronJob")["spec"]
    assert (spec["schedule"], spec["concurrencyPolicy"]) == ("30 2 * * *", "Forbid")
    assert len(only(render({"fullnameOverride": "x" * 60}, "--values", FILE), "CronJob")["metadata"]["name"]) <= 52


def test_it_has_the_least_rights_and_an_account_of_its_own() -> None:
    objects = rendered()
    role = only(objects, "Role")
    assert role["metadata"]["namespace"] == "slices"
    assert {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    } == {
        ("", "pods"): {"create", "delete", "list", "watch"},
        ("", "pods/eviction"): {"create"},
        ("apps", "replicasets"): {"create", "delete", "list", "patch"},
        ("batch", "jobs"): {"create", "delete", "list"},
        ("events.k8s.io", "events"): {"list", "watch"},
    }
    (nodes,) = only(objects, "ClusterRole")["rules"]
    assert nodes == {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
    account = only(objects, "ServiceAccount")["metadata"]
    for kind in ("Role", "ClusterRole"):
        binding = only(objects, f"{kind}Binding")
        assert binding["roleRef"]["kind"] == kind
        assert binding["roleRef"]["name"] == only(objects, kind)["metadata"]["name"]
        assert binding["metadata"].get("namespace") == only(objects, kind)["metadata"].get("namespace")
        (subject,) = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    for spec in (pod(objects), only(objects, "Pod")["spec"]):
        assert spec["serviceAccountName"] == account["name"]
        assert spec["automountServiceAccountToken"] is True


def test_it_may_look_at_the_descheduler_that_is_under_test_and_at_nothing_else_there() -> None:
    place = "kube-system/app.kubernetes.io/name=descheduler"
    objects = rendered(rebalancer="descheduler", descheduler=place)
    words = command(pod(objects))
    assert words[words.index("--descheduler") + 1] == place
    (role,) = (one for one in of_kind(objects, "Role") if one["metadata"]["namespace"] == "kube-system")
    assert role["rules"] == [{"apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": ["list"]}]
    (binding,) = (one for one in of_kind(objects, "RoleBinding") if one["metadata"]["namespace"] == "kube-system")
    assert binding["roleRef"]["name"] == role["metadata"]["name"] == binding["metadata"]["name"]
    assert binding["subjects"] == of_kind(objects, "ClusterRoleBinding")[0]["subjects"]


def test_rights_of_two_roles_in_one_namespace_have_names_of_their_own() -> None:
    roles = of_kind(rendered(rebalancer="descheduler", descheduler="slices/app=descheduler"), "Role")
    assert len({(one["metadata"]["namespace"], one["metadata"]["name"]) for one in roles}) == len(roles) == 2


def test_an_account_that_exists_gets_the_rights() -> None:
    objects = render({"rebalance": LEAST, "serviceAccount": {"name": "theirs"}})
    assert of_kind(objects, "ServiceAccount") == []
    assert only(objects, "RoleBinding")["subjects"][0]["name"] == pod(objects)["serviceAccountName"] == "theirs"


@pytest.mark.parametrize(
    ("values", "image", "slices"),
    [
        ({}, "localhost/loadband:0.2.0-rebalance", "localhost/loadband:0.2.0"),
        ({"image": {"tag": "x"}}, "localhost/loadband:x-rebalance", "localhost/loadband:x"),
        ({"global": {"imageRegistry": "r"}}, "r/loadband:0.2.0-rebalance", "r/loadband:0.2.0"),
    ],
)
def test_the_run_and_its_slices_have_images_of_their_own(values: Mapping[str, Any], image: str, slices: str) -> None:
    spec = pod(render({"rebalance": LEAST, **values}))
    assert spec["containers"][0]["image"] == image
    assert command(spec)[command(spec).index("--image") + 1] == slices


def test_reports_are_kept_on_a_claim_and_else_end_with_the_pod() -> None:
    for claim, source in (("reports", {"persistentVolumeClaim": {"claimName": "reports"}}), ("", {"emptyDir": {}})):
        objects = rendered(existingClaim=claim)
        spec = pod(objects)
        assert {"name": "reports", **source} in spec["volumes"]
        (container,) = spec["containers"]
        assert {"name": "reports", "mountPath": container["workingDir"]} in container["volumeMounts"]
        assert "--out" not in container["args"]
        # The claim may be in use by the run.
        assert {"name": "reports", "emptyDir": {}} in only(objects, "Pod")["spec"]["volumes"]


def test_its_pods_pass_pod_security_restricted() -> None:
    objects = render(None, "--values", FILE)
    for spec in (pod(objects), only(objects, "Pod")["spec"]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert all(
            volume.keys() - {"name"} <= {"configMap", "emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"]
        )
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


def test_helm_test_shows_what_a_run_would_do() -> None:
    objects = render(None, "--values", FILE)
    assert command(only(objects, "Pod")["spec"]) == [*command(pod(objects)), "--dry-run"]


def test_prometheus_finds_the_pods_that_a_run_makes() -> None:
    monitor = only(render(None, "--values", FILE), "PodMonitor")["spec"]
    assert monitor["namespaceSelector"] == {"matchNames": ["slices"]}
    makings = Makings(run="r", image="i", token="t", lifetime=1)
    made = makings.observer("node-1")
    assert selects(monitor["selector"]["matchLabels"], made["metadata"])
    (container,) = made["spec"]["containers"]
    assert monitor["podMetricsEndpoints"][0]["port"] in [port["name"] for port in container["ports"]]
    # The shipped alerts go by it.
    assert "loadband" in made["metadata"]["labels"][monitor["jobLabel"]]


def test_values_of_the_pod_are_those_of_its_pod() -> None:
    given = {"nodeSelector": {"pool": "tools"}, "tolerations": [{"key": "a"}], "affinity": {"nodeAffinity": {}}}
    secret = {"name": "token", "secret": {"secretName": "s"}}
    mount = {"name": "token", "mountPath": "/etc/token"}
    variable = {"name": "LOADBAND_PROMETHEUS_TOKEN_FILE", "value": "/etc/token/token"}
    more = {"extraVolumes": [secret], "extraVolumeMounts": [mount], "extraEnv": [variable]}
    spec = pod(render({"rebalance": LEAST, "commonLabels": {"app.kubernetes.io/component": "x"}, **given, **more}))
    assert spec["nodeSelector"]["pool"] == "tools"
    assert {key: spec[key] for key in ("tolerations", "affinity")} == {
        key: given[key] for key in ("tolerations", "affinity")
    }
    assert secret in spec["volumes"]
    assert mount in spec["containers"][0]["volumeMounts"]
    assert spec["containers"][0]["env"] == [variable]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rebalance": {**LEAST, "namespace": ""}}, "rebalance.enabled without rebalance.namespace"),
        ({"rebalance": {**LEAST, "prometheus": ""}}, "rebalance.enabled without rebalance.prometheus"),
        ({"rebalance": {**LEAST, "scenario": ""}}, "rebalance.enabled without a scenario"),
        ({"rebalance": {**LEAST, "rebalancer": "descheduler"}}, "descheduler without rebalance.descheduler"),
        ({"rebalance": {**LEAST, "descheduler": "kube-system"}}, "at '/rebalance/descheduler'"),
        ({"rebalance": {**LEAST, "prometheus": "prometheus:9090"}}, "at '/rebalance/prometheus'"),
        ({"rebalance": {**LEAST, "node": "x"}}, "at '/rebalance': additional properties 'node' not allowed"),
        ({"rebalance": LEAST, "effort": "1"}, "effort is about regulators"),
        ({"rebalance": LEAST, "kind": "Job"}, "kind is about regulators"),
        ({"rebalance": LEAST, "networkPolicy": {"enabled": True}}, "networkPolicy.enabled is about regulators"),
        ({"rebalance": LEAST, "podDisruptionBudget": {"enabled": True}}, "podDisruptionBudget.enabled is about regul"),
        ({"rebalance": LEAST, "image": {"digest": "sha256:" + "0" * 64}}, "set rebalance.image.digest, too"),
    ],
)
def test_what_cannot_run_is_refused_with_a_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "loadband 0.2.0: Job, space/one-loadband"),
        ({"schedule": "0 2 * * *"}, "loadband 0.2.0: CronJob, 0 2 * * *, space/one-loadband"),
        ({}, "It runs the scenario hot-host on all nodes that take pods, with the scenario's rebalancer."),
        ({"scenarioFile": "x", "nodes": "a=b"}, "the scenario in the ConfigMap one-loadband-scenario on a=b"),
        ({}, "It makes its slices in the namespace slices"),
        ({}, "set rebalance.existingClaim to keep them"),
        ({"existingClaim": "mine"}, "a folder for each run on the volume of mine."),
    ],
)
def test_notes_say_what_it_does_and_where_the_result_is(values: dict[str, Any], sentence: str) -> None:
    given = {"rebalance": LEAST | values}
    assert sentence in helm("install", "one", CHART, "--namespace", "space", "--dry-run=client", values=given)


def test_the_readmes_command_renders(tmp_path: Path) -> None:
    readme = (CHART / "README.md").read_text().replace("\\\n", " ")
    (line,) = (line for line in readme.splitlines() if line.startswith("helm install proof"))
    (tmp_path / "shipped-speed.toml").write_text("faster = 1\n")
    _, _, release, _, *flags = shlex.split(line.replace("=shipped-speed.toml", f"={tmp_path}/shipped-speed.toml"))
    flags.remove("--create-namespace")
    assert only(read(helm("template", release, CHART, *flags)), "Job")


def test_its_amounts_of_cpu_are_as_the_api_server_writes_them() -> None:
    cpus = {"requests": {"cpu": "1000m"}, "limits": {"cpu": 0.5}}
    (one,) = pod(rendered(resources=cpus))["containers"]
    assert one["resources"] == {
        "requests": {"cpu": "1", "memory": "256Mi"},
        "limits": {"cpu": "500m", "memory": "1Gi"},
    }


@pytest.mark.parametrize(("given", "seconds"), [({}, 90), ({"terminationGracePeriodSeconds": 300}, 300)])
def test_it_has_time_to_undo_what_it_changed(given: dict[str, Any], seconds: int) -> None:
    assert pod(render({"rebalance": LEAST, **given}))["terminationGracePeriodSeconds"] == seconds
