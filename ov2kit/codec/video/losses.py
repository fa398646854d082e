"""DecodeLosses: what decoders could not use."""

import threading
from dataclasses import dataclass, field


@dataclass
class DecodeLosses:
    """What a decoding run could not use; may be counted into from several threads."""

    failed_packets: int = 0
    corrupt_frames: int = 0
    decoded_frames: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, failed: int = 0, corrupt: int = 0, decoded: int = 0) -> None:
        with self.lock:
            self.failed_packets += failed
            self.corrupt_frames += corrupt
            self.decoded_frames += decoded
