"""Files of arrays: invalid ones, wrong headers and sizes too large are refused before memory is allocated."""

import struct
import tracemalloc
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnfast as nf
from nnfast import _npz

Arrays = dict[str, Any]


def written(path: Path, **arrays: Any) -> Path:
    _npz.save(path, arrays)
    return path


def archive(path: Path, **members: bytes) -> Path:
    """An archive of members with any contents."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def npy(array: Any) -> bytes:
    stream = BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_arrays_come_back(tmp_path: Path) -> None:
    arrays: Arrays = {
        "w": np.arange(6.0).reshape(2, 3),
        "w.npy": np.asfortranarray(np.ones((300, 7), np.float16)),
        "": np.array("name"),
        "n": np.array(3),
        "empty": np.empty((0, 4), np.uint8),
    }
    found = _npz.load(written(tmp_path / "a.npz", **arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_check_sees_shapes_before_memory_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", large=np.ones((1000, 1000)), small=np.arange(3))
    seen: Arrays = {}

    def refuse(outlines: Arrays) -> None:
        seen.update(outlines)
        raise TypeError("it is refused")

    tracemalloc.start()
    try:
        with pytest.raises(TypeError, match="it is refused"):
            _npz.load(path, refuse)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert seen["large"].shape == (1000, 1000)
    assert seen["large"].dtype == np.float64
    np.testing.assert_array_equal(seen["small"], np.arange(3))


def test_a_network_refuses_a_large_file_by_its_outline(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    np.savez_compressed(path, **{"0.weight": np.zeros((4000, 4000)), "0.bias": np.zeros(2)})
    net = nf.nn.Sequential(nf.nn.Dense(3, 2, rng=0))
    before = net.state_dict()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"state\['0.weight'\] must have shape \(3, 2\)"):
            net.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(net.state_dict()["0.weight"], before["0.weight"])


def test_compressed_weights_are_read_and_bombs_are_not(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    weights = np.random.default_rng(0).standard_normal(1000)
    np.savez_compressed(path, weights=weights)
    np.testing.assert_array_equal(_npz.load(path)["weights"], weights)
    np.savez_compressed(path, zeros=np.zeros(1_000_000))
    with pytest.raises(ValueError, match="bytes stand for 8000000"):
        _npz.load(path)


def too_long(array: np.ndarray) -> bytes:
    """A header of more elements than follow."""
    return npy(array).replace(b"(3,)", b"(4,)")


def huge(size: int) -> bytes:
    """A header of elements of so many bytes, and no element."""
    header = f"{{'descr': '<U{size // 4}', 'fortran_order': False, 'shape': (), }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([None])), "has elements of dtype object"),
        (too_long(np.arange(3.0)), "bytes, which is not what it says"),
        (npy(np.arange(3.0))[:-1], "bytes, which is not what it says"),
        (huge(1 << 30), "has elements of dtype <U"),
        (b"\x93NUMPY\x03\x00" + npy(np.ones(2))[8:], r"is of version \(3, 0\)"),
        (b"nothing of the kind", "magic string is not correct"),
        (b"", "EOF: reading magic string"),
    ],
)
def test_invalid_members(tmp_path: Path, content: bytes, message: str) -> None:
    path = archive(tmp_path / "a.npz", good=npy(np.ones(3)), bad=content)
    for check in (None, lambda outlines: None):
        with pytest.raises(ValueError, match="is no .npz file of arrays without pickle: .*"):
            _npz.load(path, check)
        with pytest.raises(ValueError, match=message):
            _npz.load(path, check)


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for content in (b"", b"text", npy(np.ones(3)), written(path, x=np.ones(9)).read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.npz' is no .npz file of arrays without pickle"):
            _npz.load(path)
    with pytest.raises(OSError, match=r"No such file"):
        _npz.load(tmp_path / "b.npz")


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", x=np.arange(5000.0))
    damaged = bytearray(path.read_bytes())
    damaged[20_000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        _npz.load(path)


def test_a_failed_save_leaves_the_folder_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "a.npz", x=np.ones(3))
    before = path.read_bytes()

    def fail(file: Any, **arrays: Any) -> None:
        file.write(b"begun")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space left"):
        written(path, x=np.zeros(3))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
