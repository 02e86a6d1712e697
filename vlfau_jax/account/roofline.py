"""How fast a program can be at most on a device, and how much of the device it then uses."""

from __future__ import annotations

from dataclasses import dataclass

from vlfau_jax.account.devices import Device


def mfu(flops: float, seconds: float, peak: float) -> float:
    """Model FLOPs utilisation: FLOPs that the network needs, over what the device could do.

    `flops` of one device are those of `account.flops`, 2 for a multiplication with its addition,
    without what is computed twice (arXiv 2204.02311, appendix B).
    """
    return flops / (seconds * peak)


@dataclass(frozen=True)
class Roofline:
    """The shortest time of a program on one device, if each resource were used without a pause.

    Attributes:
        compute: seconds for the products.
        memory: seconds for the bytes to and from main memory.
        collectives: seconds for the bytes between devices; None where the device's interconnect is
            not known. They may overlap with the rest, as the other two do with each other.
        images: images that the device processes in that time.
        flops: FLOPs of the network for these images.
        peak: FLOP/s of the device.
    """

    compute: float
    memory: float
    collectives: float | None
    images: float
    flops: float
    peak: float

    @property
    def seconds(self) -> float:
        """The longest of the three."""
        return max(self.compute, self.memory, self.collectives or 0.0)

    @property
    def bound(self) -> str:
        """What takes longest: "compute", "memory" or "collectives"."""
        times = {
            "compute": self.compute,
            "memory": self.memory,
            "collectives": self.collectives or 0.0,
        }
        return max(times, key=times.__getitem__)

    @property
    def images_per_second(self) -> float:
        """Of one device, at most."""
        return self.images / self.seconds

    @property
    def mfu(self) -> float:
        """Utilisation at that speed: an upper bound of what can be measured."""
        return mfu(self.flops, self.seconds, self.peak)


def roofline(
    device: Device,
    dtype: str,
    *,
    images: float,
    flops: float,
    hbm_bytes: float,
    sent_bytes: float = 0.0,
    computed_flops: float | None = None,
) -> Roofline:
    """The roofline of one run of a program on one device.

    Args:
        device: where it runs.
        dtype: of its products.
        images: images of one device.
        flops: of the network for these images (`account.flops`).
        hbm_bytes: to and from main memory (`account.traffic`).
        sent_bytes: that the device sends to others (`account.collectives`).
        computed_flops: what the program computes, with what it computes twice; `flops` if None.
    """
    peak = device.peak(dtype)
    computed = flops if computed_flops is None else computed_flops
    between = None
    if device.interconnect is not None:
        between = sent_bytes / device.interconnect
    elif not sent_bytes:
        between = 0.0
    return Roofline(computed / peak, hbm_bytes / device.bandwidth, between, images, flops, peak)
