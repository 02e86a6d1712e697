"""The manifests for Kubernetes are what its API takes, by the schemas of its own releases."""

from pathlib import Path

import pytest

from tests.processes import ROOT

validator = pytest.importorskip("kubernetes_validate")
yaml = pytest.importorskip("yaml")
LAUNCH = ROOT / "launch"
VERSIONS = ("1.33", "1.37")  # of the cluster
GRACE = 120  # seconds; slurm.sh has as many


def documents(path, text=None):
    return [*yaml.safe_load_all(text if text is not None else (LAUNCH / path).read_text())]


def study():
    """As sweep.sh fills it in."""
    return (LAUNCH / "kubernetes_study.yaml").read_text().replace("STUDY_COUNT", "3")


def jobs():
    """Every Job, those inside a JobSet, too."""
    found = [("kubernetes.yaml", one) for one in documents("kubernetes.yaml")]
    found += [("kubernetes_study.yaml", one) for one in documents("", study())]
    found = [(name, one) for name, one in found if one["kind"] == "Job"]
    (jobset,) = documents("jobset_tpu.yaml")
    for one in jobset["spec"]["replicatedJobs"]:
        head = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": one["name"]}}
        found.append(("jobset_tpu.yaml", head | one["template"]))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_job_and_service_is_valid(version):
    service, _ = documents("kubernetes.yaml")
    assert service["kind"] == "Service"
    for one in (service, *(job for _, job in jobs())):
        validator.validate(one, version, strict=True)


def test_a_misspelt_field_is_found():
    _, job = documents("kubernetes.yaml")
    job["spec"]["completionMod"] = "Indexed"
    with pytest.raises(validator.ValidationError):
        validator.validate(job, VERSIONS[-1], strict=True)


def test_the_jobset_has_the_fields_of_its_api():
    # Its schema is in no package; these are the fields of v1alpha2 that the manifest may use.
    (jobset,) = documents("jobset_tpu.yaml")
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2" and jobset["kind"] == "JobSet"
    assert jobset["spec"].keys() <= {
        *("replicatedJobs", "network", "successPolicy", "failurePolicy", "startupPolicy"),
        *("suspend", "coordinator", "managedBy", "ttlSecondsAfterFinished"),
    }
    policy = jobset["spec"]["failurePolicy"]
    assert policy.keys() <= {"maxRestarts", "rules", "restartStrategy"}
    (rule,) = policy["rules"]
    assert rule.keys() <= {"name", "action", "onJobFailureReasons", "targetReplicatedJobs"}
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    for one in jobset["spec"]["replicatedJobs"]:
        assert one.keys() <= {"name", "groupName", "template", "replicas", "dependsOn"}
        assert one["template"]["spec"]["parallelism"] == one["template"]["spec"]["completions"]


@pytest.mark.parametrize(("name", "job"), jobs(), ids=lambda x: x if isinstance(x, str) else "")
def test_a_pod_has_time_to_save_and_memory_for_workers(name, job):
    pod = job["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > GRACE, name
    assert pod["restartPolicy"] == "Never"
    mounts = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"/shared", "/dev/shm"}


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kubernetes_study.yaml", "jobset_tpu.yaml"])
def test_jobs_queue_by_kueue(name):
    labels = documents(name)[-1]["metadata"]["labels"]
    assert "kueue.x-k8s.io/queue-name" in labels


def test_processes_and_pods_are_as_many():
    _, job = documents("kubernetes.yaml")
    count = job["spec"]["completions"]
    assert job["spec"]["parallelism"] == count
    assert f"--processes={count}" in job["spec"]["template"]["spec"]["containers"][0]["args"]


def test_all_manifests_are_tested_here():
    names = {path.name for path in Path(LAUNCH).glob("*.yaml")}
    assert names == {"kubernetes.yaml", "kubernetes_study.yaml", "jobset_tpu.yaml", "sky.yaml"}
