"""Lay images out as plaintext slots, and back: the arithmetic behind PPDL/1's ciphertext shards (docs/format.md, section 5).

A shard holds a run of whole images, cut into groups of `images_per_group`. In a group, the pixels of one plane, image
after image, form one stream, which fills the slots of consecutive plaintexts; only the end of a stream is padded, with
zeros. Rows of the shard: the first plaintext of every plane, then the second of every plane, and so on.

With one plane, the stream is the images themselves. With stride s, plane dy * s + dx holds the pixels
(y * s + dy, x * s + dx): the pixels at one place inside all s x s patches, so that a linear stem multiplies a whole
plane by one weight (linear.py).
"""

from dataclasses import dataclass

import numpy as np

from ppdl.crypto.artifact.fields import check_int
from ppdl.errors import CryptoError


@dataclass(frozen=True)
class Packing:
    """Say how the pixels of a shard's images fill plaintext slots.

    Args:
        slot_bits: width of a slot.
        slots: slots of a plaintext; slot j has the weight 2^(j * slot_bits).
        planes: streams of a group; the square of the stride for pixels, the number of filters for a stem's outputs.
        plane_height, plane_width: size of an image's part of a plane, in px.
        images_per_group: images whose pixels share a stream. 1: no ciphertext holds pixels of two images.

    Raises:
        ArtifactError: a value out of range.
    """

    slot_bits: int
    slots: int
    planes: int
    plane_height: int
    plane_width: int
    images_per_group: int

    def __post_init__(self) -> None:
        check_int("packing.slot_bits", self.slot_bits, 8, 32)
        for name in ("slots", "planes", "plane_height", "plane_width"):
            check_int(f"packing.{name}", getattr(self, name), 1, 2**16)
        check_int("packing.images_per_group", self.images_per_group, 1, 2**40)

    def stream_rows(self, num_images: int) -> int:
        """Count the plaintexts of one plane of a group of `num_images` images."""
        return -(-num_images * self.plane_height * self.plane_width // self.slots)

    def rows(self, num_images: int) -> int:
        """Count the ciphertexts of `num_images` images that begin a group."""
        full, rest = divmod(num_images, self.images_per_group)
        return self.planes * (full * self.stream_rows(self.images_per_group) + self.stream_rows(rest))

    def to_slots(self, planes: np.ndarray) -> np.ndarray:
        """Fill slots with planes.

        Args:
            planes: (num_images, planes, plane_height, plane_width), of images that begin a group.

        Returns:
            (rows(num_images), slots), dtype of `planes`.
        """
        full = len(planes) // self.images_per_group * self.images_per_group
        whole = self._groups_to_slots(planes[:full], self.images_per_group)
        rest = self._groups_to_slots(planes[full:], len(planes) - full)
        return np.concatenate([whole, rest])

    def _groups_to_slots(self, planes: np.ndarray, group: int) -> np.ndarray:
        """Fill slots with whole groups of `group` images."""
        if not len(planes):
            return np.empty((0, self.slots), planes.dtype)
        num_groups, rows = len(planes) // group, self.stream_rows(group)
        streams = planes.reshape(num_groups, group, self.planes, -1).swapaxes(1, 2).reshape(num_groups, self.planes, -1)
        out = np.zeros((num_groups, self.planes, rows * self.slots), planes.dtype)
        out[..., : streams.shape[-1]] = streams
        return out.reshape(num_groups, self.planes, rows, self.slots).swapaxes(1, 2).reshape(-1, self.slots)

    def from_slots(self, values: np.ndarray, num_images: int) -> np.ndarray:
        """Invert `to_slots`.

        Args:
            values: (rows(num_images), slots).
            num_images: images that the rows hold.

        Returns:
            (num_images, planes, plane_height, plane_width).

        Raises:
            CryptoError: padding is not zero, so these are not slots that `to_slots` filled.
        """
        full = num_images // self.images_per_group * self.images_per_group
        rows = self.rows(full)
        whole = self._slots_to_groups(values[:rows], full, self.images_per_group)
        rest = self._slots_to_groups(values[rows:], num_images - full, num_images - full)
        return np.concatenate([whole, rest])

    def _slots_to_groups(self, values: np.ndarray, num_images: int, group: int) -> np.ndarray:
        shape = (num_images, self.planes, self.plane_height, self.plane_width)
        if not num_images:
            return np.empty(shape, values.dtype)
        num_groups = num_images // group
        streams = values.reshape(num_groups, -1, self.planes, self.slots).swapaxes(1, 2).reshape(num_groups, self.planes, -1)
        size = group * self.plane_height * self.plane_width
        if streams[..., size:].any():
            raise CryptoError("padding slots must decrypt to 0, found other values: these ciphertexts are not what the header says")
        return streams[..., :size].reshape(num_groups, self.planes, group, -1).swapaxes(1, 2).reshape(shape)


def to_planes(images: np.ndarray, stride: int) -> np.ndarray:
    """Split images by phase: (n, h, w) to (n, stride * stride, h / stride, w / stride)."""
    n, h, w = images.shape
    phases = images.reshape(n, h // stride, stride, w // stride, stride)
    return phases.transpose(0, 2, 4, 1, 3).reshape(n, stride * stride, h // stride, w // stride)


def from_planes(planes: np.ndarray, stride: int) -> np.ndarray:
    """Invert `to_planes`."""
    n, _, h, w = planes.shape
    phases = planes.reshape(n, stride, stride, h, w).transpose(0, 3, 1, 4, 2)
    return phases.reshape(n, h * stride, w * stride)
