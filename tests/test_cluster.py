"""How the workers of a cluster find each other, and what is said while one is absent or when one is lost."""

import concurrent.futures
import dataclasses
import json
import logging
import socket
import threading
import time

import pytest
import tensorflow as tf
from commands import SMALL, cluster_texts, command, ended, start, start_workers
from conftest import folder_overrides, make_coco_folder

from fpn_tf import cluster, meeting
from fpn_tf.cluster import Cluster, make_cluster
from fpn_tf.errors import ClusterError
from fpn_tf.meeting import meet


def free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return [f"localhost:{port}" for port in ports]


def listener(address):
    return socket.create_server(("", int(address.rpartition(":")[2])))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 0.1)
    monkeypatch.setattr(meeting, "TICK", 0.01)


def test_workers_that_come_at_different_times_meet(monkeypatch, caplog):
    monkeypatch.setattr(meeting, "TICK", 0.01)
    addresses = free_addresses(3)

    def come(number):
        time.sleep(0.1 * number)
        meet(addresses, number)
        server = listener(addresses[number])  # as TensorFlow does from then on
        time.sleep(0.5)
        server.close()
        return number

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert list(pool.map(come, range(3))) == [0, 1, 2]
    assert "waiting" not in caplog.text


def test_absent_workers_are_named_by_their_addresses(impatient, caplog):
    caplog.set_level(logging.WARNING)
    addresses = free_addresses(4)
    with listener(addresses[1]):
        thread = threading.Thread(target=meet, args=(addresses, 0), daemon=True)
        thread.start()
        time.sleep(0.4)
        assert thread.is_alive()
        absent = f"waiting for 2 of 4 workers ({addresses[2]}, {addresses[3]})"
        assert caplog.text.count("waiting for") == caplog.text.count(absent) == 1  # said once
        with listener(addresses[2]):
            time.sleep(0.4)
            assert f"waiting for 1 of 4 workers ({addresses[3]})" in caplog.text
            with listener(addresses[3]):
                thread.join(5)
    assert not thread.is_alive()
    assert caplog.text.count("waiting for") == 2


def test_a_worker_that_has_come_is_not_waited_for_again(impatient, caplog):
    """It closes its port for a moment, before TensorFlow opens it."""
    addresses = free_addresses(3)
    thread = threading.Thread(target=meet, args=(addresses, 0), daemon=True)
    thread.start()
    with listener(addresses[1]):
        time.sleep(0.2)
    with listener(addresses[2]):
        thread.join(5)
    assert not thread.is_alive()


def test_a_port_that_is_taken_is_one_line():
    addresses = free_addresses(2)
    with (
        listener(addresses[0]),
        pytest.raises(ClusterError, match=rf"^{addresses[0]}: this worker cannot listen there \(.*in use"),
    ):
        meet(addresses, 0)


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":2222", "localhost:http", "localhost:70000"])
def test_an_address_that_is_none_is_one_line(address):
    with pytest.raises(ClusterError, match="is no address of a worker; expected host:port"):
        meet([address, *free_addresses(1)], 1)


@pytest.mark.parametrize("error", cluster.LOST_WORKER_ERRORS)
def test_a_lost_worker_is_one_line(error):
    message = "{{function_node __wrapped__Send_device}} Socket closed\nAdditional GRPC error\nmore"
    alone, two = (Cluster(tf.distribute.get_strategy(), workers=workers) for workers in (1, 2))
    line = r"^another worker has gone \(Socket closed\); start all 2 again"
    with pytest.raises(ClusterError, match=line), two.lost_worker:
        raise error(None, None, message)
    with pytest.raises(error), alone.lost_worker:
        raise error(None, None, message)


def test_workers_with_different_networks_are_told_so():
    message = (
        "{{function_node __wrapped__Collective}} Collective ops is aborted by: Shape mismatch in the "
        "collective instance 140. Op at device /job:worker/replica:0/task:0/device:CPU:0 expected shape "
        "[1,1,32,16] but another member in the group expected shape [1,1,32,24]. This is likely due to\nmore"
    )
    line = (
        "the workers make different networks: this one has a weight [1,1,32,16] where another has "
        "[1,1,32,24]; start all 2 with the same experiment"
    )
    for kind in (tf.errors.InvalidArgumentError, tf.errors.InternalError):
        assert cluster.cluster_message(kind(None, None, message), 2) == line
    other = "Collective ops is aborted by: Inconsistent output shapes"
    told = cluster.cluster_message(tf.errors.InvalidArgumentError(None, None, other), 2)
    assert told.startswith(f"another worker has gone ({other})")
    in_graph = (
        "Graph execution error:\n\nDetected at node CollectiveGatherV2 defined at (most recent call last):\n"
        "<stack traces unavailable>\nCollective ops is aborted by: Socket closed\nmore"
    )
    told = cluster.cluster_message(tf.errors.UnavailableError(None, None, in_graph), 2)
    assert told.startswith(
        "another worker has gone (Collective ops is aborted by: Socket closed); start all 2"
    )
    assert cluster.cluster_message(tf.errors.InvalidArgumentError(None, None, "a shape of our own"), 2) == ""


def test_texts_of_one_worker_need_no_exchange():
    assert Cluster(tf.distribute.get_strategy()).gathered_texts("ä" * 3) == ["äää"]


def test_texts_of_any_length_reach_all():
    """Two replicas of this process stand for two workers."""
    two = dataclasses.replace(make_cluster(2), workers=2)
    assert two.gathered_numbers(2**40 + 1) == [2**40 + 1] * 2
    for text in ("", "ä", "ä" * 7, "ä" * 50_000):
        assert two.gathered_texts(text) == [text] * 2


# Processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def overrides(tmp_path):
    root = make_coco_folder(tmp_path / "data")
    return [*SMALL, *folder_overrides(root), "train.batch_size=6", "data.keep_empty=true"]


def lines_of(errors):
    """The lines of standard error, without those of TensorFlow's start."""
    return [
        line for line in errors.splitlines() if not line.startswith(("WARNING: All log", "I0000", "W0000"))
    ]


DIFFERENCES = {
    "seed and rate": (
        ["train.learning_rate=0.02", "train.seed=1"],
        "has train.learning_rate=0.02 (worker 0: 0.01), train.seed=1 (worker 0: 0)",
    ),
    "another network": (["model.neck_channels=24"], "has model.neck_channels=24 (worker 0: 16)"),
    "another held-out set": (["data.eval_annotations=moved.json"], "other annotations of the held-out data"),
    "another training set": (["data.train_annotations=moved.json"], "other annotations of the training data"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("difference", "told"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_workers_that_differ_do_not_train(overrides, tmp_path, difference, told):
    data = tmp_path / "data"
    coco = json.loads((data / "annotations.json").read_text())
    coco["annotations"][0]["bbox"][0] += 0.5
    (data / "moved.json").write_text(json.dumps(coco))
    workers = start_workers(
        3, *command("train_and_eval", tmp_path / "run"), overrides=overrides, overrides_of={2: difference}
    )
    done = [ended(worker) for worker in workers]
    assert [status for status, _, _ in done] == [1, 1, 1], done
    for _, _, errors in done:
        [line] = lines_of(errors)
        assert line.startswith("error: worker 2 has ")
        assert told in line
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_is_lost_while_the_model_is_made_is_one_line(overrides, tmp_path):
    workers = start_workers(2, *command("train", tmp_path / "run"), overrides=overrides)
    while "replica(s) of 2 process(es)" not in workers[0].stdout.readline():
        assert workers[0].poll() is None
    workers[1].kill()
    status, _, errors = ended(workers[0])
    ended(workers[1])
    [line] = lines_of(errors)
    assert status == 1
    assert line.startswith("error: another worker has gone (")
    assert line.endswith("; start all 2 again: they go on from the newest checkpoint")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
def test_a_worker_that_never_comes_is_named_and_not_waited_for_in_deafness(overrides, tmp_path):
    texts = cluster_texts(2)
    alone = start(*command("train", tmp_path / "run"), overrides=overrides, TF_CONFIG=texts[0])
    absent = json.loads(texts[0])["cluster"]["worker"][1]
    while f"waiting for 1 of 2 workers ({absent})" not in alone.stderr.readline():
        assert alone.poll() is None
    alone.terminate()
    alone.wait(10)
    assert ended(alone)[0] != 0
