"""Appends a record to its stream, and calls back when it is durable."""

from collector.buffer.cluster_writer import ClusterWriter
from collector.buffer.node_writer import NodeWriter
from collector.buffer.pending import OnResult
from contract import keys
from contract.errors import Retry

Writer = NodeWriter | ClusterWriter


class Appender:
    """Appends records to the stream shards."""

    def __init__(self, writer: Writer, shards: int) -> None:
        """`shards`: the number of streams. The caller runs `writer`."""
        self.writer = writer
        self._shards = shards
        # Every record is refused with this error; None: records are accepted.
        self.held: Retry | None = None

    def append(self, identity: bytes, record: bytes, on_result: OnResult) -> None:
        """As `NodeWriter.write`, to the shard that `identity` (16 bytes) chooses.

        Raises:
            Retry: too many records are pending, or it is `held`.
        """
        if self.held is not None:
            raise Retry(self.held.reason, str(self.held))
        self.writer.write(record, keys.shard_of(identity, self._shards), on_result)
