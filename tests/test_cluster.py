"""Hyperparameter search on a Ray cluster: two real nodes on this machine, one of which is killed."""

import csv
import os
import sys
import threading
import time

import pytest

from jevo.errors import InputError
from jevo.mixed import MixedTrainer, Worker, cluster
from jevo.training.criterion import classification
from tests.test_hyperparams import made_task

pytestmark = pytest.mark.extras
SEARCH = {
    "population": 6, "generations": 1, "lucky": 0, "epochs": 8, "patience": 8, "workers": 1, "seed": 2, "halving": 2,
}  # fmt: skip


def rows(folder):
    """Every proposal with all that it led to, but the time that it took."""
    with (folder / "genomes.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture
def nodes(monkeypatch):
    """A head that trains nothing, and two nodes; `nodes[0]` is the cluster."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made, [made.add_node(num_cpus=1) for _ in range(2)]
    finally:
        made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_node_dies_and_the_search_ends_as_it_would_have(nodes, tmp_path, caplog):
    from jevo.experiments import hyperparams

    made, (doomed, _) = nodes
    alone = hyperparams.run(hyperparams.Config(out=tmp_path / "alone", **SEARCH))
    caplog.set_level("INFO", "jevo")

    def kill():
        ledger = tmp_path / "ray" / "genomes.jsonl"
        while not (ledger.exists() and ledger.read_text().count("\n") >= 2):
            time.sleep(0.01)
        made.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = hyperparams.run(hyperparams.Config(out=tmp_path / "ray", ray=made.address, **SEARCH))
    killer.join()
    assert "is lost" in caplog.text
    assert rows(tmp_path / "ray") == rows(tmp_path / "alone")
    assert found["metrics"] == alone["metrics"]
    assert found["budget"]["gradient_steps"] == alone["budget"]["gradient_steps"]
    trained = (tmp_path / "ray" / "genomes.jsonl").read_text().splitlines()
    assert len(trained) == len((tmp_path / "alone" / "genomes.jsonl").read_text().splitlines())


GENOMES = [{"dense": [{"units": n, "activation": "tanh"}] * (1 + n % 2), "lr": 0.01} for n in (3, 4, 6, 5)]


class Dying(Worker):
    """Takes its process with it when it shall train a network of three units."""

    def train(self, job):
        if job.members[0].architecture.dense[0] == 3:
            os._exit(1)
        return super().train(job)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_genome_that_kills_its_workers_is_given_up(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "Worker", Dying)
    sizes = {"batch_size": 16, "epochs": 2, "max_epochs": 2, "patience": 2}
    with cluster.ray_backend("local", 1) as backend:
        trainer = MixedTrainer(made_task((9,)), classification(3), **sizes, make_executor=backend.make_executor)
        found = dict(trainer.score(GENOMES, trainer.plan(GENOMES)))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[0].reason.startswith("3 workers died of it, perhaps for want of memory (")
    assert not any(found[i].reason for i in (1, 2, 3))


def test_a_cluster_that_is_not_there_is_said_plainly(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = r"Ray is not installed; pip install 'jevo\[ray\]', here and on every node"
    with pytest.raises(InputError, match=message), cluster.ray_backend("local", 1):
        pass


def test_an_address_where_nobody_answers_is_said_plainly():
    pytest.importorskip("ray")
    message = (
        r"no Ray cluster at 127\.0\.0\.1:1 \(.*refused\); start one with `ray start --head`, or take the address local"
    )
    with pytest.raises(InputError, match=message), cluster.ray_backend("127.0.0.1:1", 1):
        pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:os.fork")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_local_cluster_is_reached_from_this_machine_alone():
    """Who reaches a Ray cluster may run any code on it."""
    ray, psutil = pytest.importorskip("ray"), pytest.importorskip("psutil")

    def listening():
        return {(c.pid, c.laddr) for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid}

    before = listening()
    with cluster.ray_backend("local", 1):
        assert ray.get(ray.remote(lambda: 7).remote()) == 7  # A worker listens, too.
        opened = {address.ip for _, address in listening() - before}
    assert opened
    assert opened <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
