"""The processes and devices of a run, under `tf.distribute`."""

import contextlib
import dataclasses
import functools
import json
import os
import re

import numpy as np
import tensorflow as tf

from fpn_tf.errors import ClusterError, ConfigError
from fpn_tf.meeting import meet, sigterm_kept

LOST_WORKER_ERRORS = (  # TensorFlow raises one of them when another process is gone
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)
PLACES_IN_A_GRAPH = ("Graph execution error", "Detected at node", "Node:", "<stack traces", " ")
CHUNK = 2**13  # int64 numbers, eight bytes each, of a text that workers send each other


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of a run ("workers") and the devices ("replicas") of them all.

    Attributes:
        strategy: tf.distribute.Strategy.
        worker: the number of this process; 0 is the chief, which alone writes files.
        workers: the number of processes, each with as many replicas.
    """

    strategy: tf.distribute.Strategy
    worker: int = 0
    workers: int = 1

    @property
    def is_chief(self):
        return self.worker == 0

    @property
    def replicas(self):
        """The number of devices of all workers together."""
        return self.strategy.num_replicas_in_sync

    @property
    def local_replicas(self):
        """The numbers of this process' replicas among those of all workers, a slice."""
        count = self.replicas // self.workers
        return slice(self.worker * count, (self.worker + 1) * count)

    def distribute(self, batches):
        """A tf.data.Dataset, whose elements go in turn to this process' replicas, distributed.

        With one replica it is the dataset itself.
        """
        if self.replicas == 1:
            return batches
        return self.strategy.distribute_datasets_from_function(lambda context: batches)

    def gathered(self, function, element_spec):
        """`function` on every replica's element of a distributed batch, compiled.

        Args:
            function: tensors -> tensors with rows along their first axis.
            element_spec: of the distributed batches.

        Returns:
            A function of such a batch; it gives the rows of all replicas as NumPy arrays, in the
            order of the replicas, to every worker.
        """

        @tf.function(input_signature=[element_spec], jit_compile=False, autograph=False)
        def step(batch):
            outputs = self.strategy.run(function, args=(batch,))
            return tf.nest.map_structure(lambda rows: self.strategy.gather(rows, axis=0), outputs)

        return lambda batch: tf.nest.map_structure(lambda t: t.numpy(), step(batch))

    def gathered_numbers(self, number):
        """The whole numbers that the processes call this with: a list of one for each replica, in order."""
        if self.workers == 1:
            return [number]
        return self._gather_number([[number]])[:, 0].tolist()

    def gathered_texts(self, text):
        """The texts that the processes call this with: a list of one for each worker, in order."""
        if self.workers == 1:
            return [text]
        data = text.encode()
        lengths = self.gathered_numbers(len(data))
        size = CHUNK * 8  # bytes
        count = max(-(-max(lengths) // size), 1)
        chunks = np.frombuffer(data.ljust(count * size, b"\0"), np.int64).reshape(count, 1, CHUNK)
        rows = np.concatenate([self._gather_chunk(chunk) for chunk in chunks], axis=1)
        of_workers = range(0, self.replicas, self.replicas // self.workers)
        return [rows[i].tobytes()[: lengths[i]].decode() for i in of_workers]

    @functools.cached_property
    def _gather_number(self):
        return self._gatherer(1)

    @functools.cached_property
    def _gather_chunk(self):
        return self._gatherer(CHUNK)

    def _gatherer(self, width):
        """A function: int64 [1, width] of each process -> [replicas, width], a NumPy array.

        Each has one width: TensorFlow remembers the shape of an exchange, and may crash with another.
        """

        @tf.function(input_signature=[tf.TensorSpec([1, width], tf.int64)], autograph=False)
        def gather(row):
            return self.strategy.gather(self.strategy.run(tf.identity, args=(row,)), axis=0)

        return lambda row: gather(row).numpy()

    @property
    def lost_worker(self):
        """A context that raises ClusterError, in one line, where another worker is lost inside it."""
        return _lost_worker_in_one_line(self.workers)


@contextlib.contextmanager
def _lost_worker_in_one_line(workers):
    try:
        yield
    except tf.errors.OpError as error:
        if workers == 1:
            raise
        message = cluster_message(error, workers)
        if not message:
            raise
        raise ClusterError(message) from None


def cluster_message(error, workers):
    """What a TensorFlow error says about the other workers, in one line; "" where it is about something else.

    Args:
        error: tf.errors.OpError.
        workers: the number of processes.
    """
    text = str(error.message)
    shapes = re.search(
        r"expected shape (\[.*?\]) but another member in the group expected shape (\[.*?\])", text
    )
    if shapes:
        return (
            f"the workers make different networks: this one has a weight {shapes[1]} where another has "
            f"{shapes[2]}; start all {workers} with the same experiment"
        )
    if not isinstance(error, LOST_WORKER_ERRORS) and "ollective op" not in text:
        return ""
    lines = re.sub(r"\{\{.*?\}\} *", "", text).splitlines()  # without the names of nodes
    reasons = [line for line in lines if line and not line.startswith(PLACES_IN_A_GRAPH)] or lines
    return (
        f"another worker has gone ({reasons[0][:120]}); start all {workers} again: "
        "they go on from the newest checkpoint"
    )


def make_cluster(num_replicas=0, batch_size=None):
    """The Cluster that this process belongs to. Call it before TensorFlow's first op.

    Several processes, where TF_CONFIG or a Slurm step names them: MultiWorkerMirroredStrategy.
    One: MirroredStrategy over its GPUs, or without a GPU over logical CPU devices.

    Args:
        num_replicas: 0 for every GPU (or one CPU device) of each process, else how many of either
            in all processes together.
        batch_size: if given, "every GPU" of a single process is the largest number that divides it.

    Raises:
        ConfigError: more replicas than GPUs, another number than the processes can share, or too
            late to split the CPU; ClusterError: TF_CONFIG or Slurm's variables are wrong.
    """
    gpus = tf.config.list_physical_devices("GPU")
    let_memory_grow(gpus)
    resolver = _resolver()
    if resolver is not None:
        return _many_workers(resolver, gpus, num_replicas)
    if gpus:
        usable = [n for n in range(1, len(gpus) + 1) if batch_size is None or batch_size % n == 0]
        count = num_replicas or max(usable)
        _check_gpus(count, gpus, num_replicas)
        devices = [f"GPU:{i}" for i in range(count)]
    else:
        count = max(num_replicas, 1)
        _split_cpu(count)
        devices = [f"CPU:{i}" for i in range(count)]
    if count == 1:
        return Cluster(tf.distribute.OneDeviceStrategy(devices[0]))
    return Cluster(tf.distribute.MirroredStrategy(devices))


def let_memory_grow(gpus):
    """Has TensorFlow take GPU memory as it needs it; a GPU that a notebook has used stays as it is."""
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)


def _many_workers(resolver, gpus, num_replicas):
    workers = len(resolver.cluster_spec().as_dict().get("worker", ()))
    if resolver.task_type != "worker" or not 0 <= resolver.task_id < workers:
        raise ClusterError(
            f"this process is {resolver.task_type} {resolver.task_id} of {workers} workers; "
            f"expected worker 0..{workers - 1}, the first of which is the chief"
        )
    if num_replicas % workers:
        raise ConfigError(
            f"train.num_replicas={num_replicas}: expected a multiple of the {workers} workers, or 0"
        )
    if num_replicas:
        per_worker = num_replicas // workers
        if gpus:
            _check_gpus(per_worker, gpus, num_replicas)
            tf.config.set_visible_devices(gpus[:per_worker], "GPU")
        elif per_worker > 1:
            raise ConfigError(
                f"train.num_replicas={num_replicas}: without GPUs each worker has one CPU device"
            )
    addresses = resolver.cluster_spec().as_dict()["worker"]
    meet(addresses, resolver.task_id)
    with _lost_worker_in_one_line(workers), sigterm_kept():
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    return Cluster(strategy, resolver.task_id, workers)


def _resolver():
    """The cluster resolver of TF_CONFIG or of a Slurm step; None for a process by itself."""
    text = os.environ.get("TF_CONFIG", "")
    if text:
        try:
            cluster = json.loads(text)["cluster"]
            if sum(map(len, cluster.values())) < 2:
                return None
            return tf.distribute.cluster_resolver.TFConfigClusterResolver()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClusterError(
                f"TF_CONFIG={text[:80]}: {type(error).__name__} {error}; expected "
                '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
            ) from None
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1":
        return None
    try:
        # Which GPUs a task sees is Slurm's business (srun --gpus-per-task), not the resolver's.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=int(tasks), gpus_per_task=1, auto_set_gpu=False
        )
        resolver.cluster_spec()  # finds out which task this is
        return resolver
    except (RuntimeError, ValueError) as error:
        raise ClusterError(f"Slurm step of {tasks} tasks: {error}") from None


def _check_gpus(count, gpus, num_replicas):
    if count > len(gpus):
        raise ConfigError(f"train.num_replicas={num_replicas}: there are {len(gpus)} GPUs in this process")


def _split_cpu(count):
    """Makes at least `count` logical CPU devices; only possible before TensorFlow's first op."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = tf.config.get_logical_device_configuration(cpu) or [None]
    if len(logical) >= count:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError:
        raise ConfigError(
            f"train.num_replicas={count}: TensorFlow is already running with {len(logical)} CPU device(s)"
        ) from None
