"""The image sets and digits: on small generated originals everywhere, on the real ones where they are."""

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from jevo.data import cache, datasets, image_sets, originals
from jevo.data.datasets import SPLITS, Dataset, Split, against_rest, load
from jevo.data.task import to_device
from jevo.data.values import values_of
from jevo.errors import InputError

REAL = Path(os.environ.get("JEVO_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
BATCH = 6  # images in a generated CIFAR-10 batch
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="no folder of real data")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JEVO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JEVO_DATA_DIR", raising=False)


def images(seed, n, *shape):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), np.uint8), rng.integers(0, 10, n).astype(np.uint8)


def publish(monkeypatch, name, files):
    """Makes the generated `files` (file name -> bytes) the published ones."""
    checksums = dict(originals.CHECKSUMS[name])
    for file, raw in files.items():
        algorithm = hashlib.md5 if len(checksums[file]) == 32 else hashlib.sha256
        checksums[file] = algorithm(raw).hexdigest()
    monkeypatch.setitem(originals.CHECKSUMS, name, checksums)


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for file, raw in files.items():
        (folder / file).write_bytes(raw)


def idx_files(seed=0, train=40, test=8):
    """MNIST in small: its four files."""

    def idx(array):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        return gzip.compress(header + array.tobytes(), mtime=0)

    files = {}
    for prefix, n in (("train", train), ("t10k", test)):
        x, y = images(seed + n, n, 28, 28)
        files[f"{prefix}-images-idx3-ubyte.gz"] = idx(x)
        files[f"{prefix}-labels-idx1-ubyte.gz"] = idx(y)
    return files


def cifar10_batches():
    """CIFAR-10 in small: file name -> x [BATCH, 3072], colour planes apart, and y [BATCH]."""
    names = (*originals.CIFAR10_TRAIN, originals.CIFAR10_TEST)
    return {name: images(i, BATCH, 3072) for i, name in enumerate(names)}


def pickled(x, y):
    return pickle.dumps({b"data": x, b"labels": y.tolist()}, protocol=2)


def tar(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, raw in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return file.getvalue()


@pytest.fixture
def mnist(tmp_path, monkeypatch):
    """A folder with a small MNIST, taken for the published one."""
    files = idx_files()
    write(tmp_path / "originals", files)
    publish(monkeypatch, "mnist", files)
    monkeypatch.setitem(originals.TRAIN, "mnist", 40)
    return tmp_path / "originals"


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """A folder with a small CIFAR-10 as its extracted files, taken for the published one."""
    files = {name: pickled(*batch) for name, batch in cifar10_batches().items()}
    write(tmp_path / "originals" / "cifar-10-batches-py", files)
    publish(monkeypatch, "cifar10", files)
    monkeypatch.setitem(originals.TRAIN, "cifar10", 5 * BATCH)
    return tmp_path / "originals"


def cifar10_expected(*names):
    batches = cifar10_batches()
    x = np.concatenate([batches[name][0] for name in names]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return x, np.concatenate([batches[name][1] for name in names])


def fails(name, data_dir=None, **arguments):
    """The one plain line that `load` ends in."""
    with pytest.raises(InputError) as caught:
        load(name, data_dir, **arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_digits():
    data = load("digits")
    assert [split.x.shape for split in (data.train, data.validation, data.test)] == [
        (1294, 8, 8, 1),
        (144, 8, 8, 1),
        (359, 8, 8, 1),
    ]
    assert data.train.x.dtype == np.uint8
    assert data.train.x.max() == 16
    assert data.train.y.dtype == np.int32
    assert data.classes == tuple("0123456789")
    for split in (data.train, data.validation, data.test):  # each class has its share of each split
        assert abs(np.bincount(split.y) / len(split.y) - 0.1).max() < 0.015
    every = np.concatenate([data.train.x, data.validation.x, data.test.x]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    assert sorted(map(bytes, every)) == sorted(map(bytes, load_digits(return_X_y=True)[0].astype(np.uint8)))


def test_digits_are_read_without_scikit_learn_or_with_it(monkeypatch):
    by_file = load("digits")
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    by_package = load("digits")
    for one, other in ((getattr(by_file, split), getattr(by_package, split)) for split in SPLITS):
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.y, other.y)


def test_digits_is_the_same_each_time_and_takes_a_validation_size():
    one, two = load("digits", validation=100), load("digits", validation=0.25)
    assert len(one.validation.y) == 100
    assert len(two.validation.y) == round(0.25 * 1438)
    assert np.array_equal(one.test.x, two.test.x)
    assert np.array_equal(one.train.x, load("digits", validation=100).train.x)


def toy(*shape, note=""):
    """A small set of three classes, made up here."""
    rng = np.random.default_rng(0)
    splits = [Split(rng.integers(0, 9, (n, *shape), np.uint8), np.int32(np.arange(n) % 3)) for n in (12, 4, 5)]
    return Dataset("toy", *splits, ("cat", "dog", "owl"), values_of(splits[0].x), note)


def test_one_class_against_the_rest():
    data = toy(2, note="small")
    binary = against_rest(data, "dog")
    assert binary.classes == ("rest", "dog")
    assert binary.note == "small; class dog against the rest"
    assert against_rest(toy(2), "owl").note == "class owl against the rest"
    for part in SPLITS:
        before, after = getattr(data, part), getattr(binary, part)
        assert np.array_equal(after.x, before.x)
        assert after.y.dtype == np.int32
        assert [binary.classes[i] for i in after.y] == ["dog" if data.classes[i] == "dog" else "rest" for i in before.y]
    with pytest.raises(InputError, match=r"^toy has no class 'dgo'; its classes are cat, dog, owl$"):
        against_rest(data, "dgo")


@pytest.mark.parametrize("shape", [(3,), (4, 4, 1)])
def test_a_given_center_and_scale_take_the_place_of_the_measured_ones(shape):
    data = toy(*shape)
    x, measured = data.train.x.astype(float), to_device(data)
    for given, center, scale in (
        ({"center": 4.0, "scale": 2.5}, 4.0, 2.5),
        ({"center": 0.0}, 0.0, np.asarray(measured.scale)),  # Zero is a center, too.
        ({"scale": 2.5}, x.mean(axis=0), 2.5),
    ):
        task = to_device(data, **given)
        np.testing.assert_allclose(task.inputs(data.train.x), (x - center) / scale, rtol=1e-5, atol=1e-5)
        assert (task.mean.shape, task.scale.shape) == (measured.mean.shape, measured.scale.shape)


def test_mnist_is_what_is_published_and_needs_no_tensorflow(mnist):
    data = load("mnist", mnist)
    published = originals.read("mnist", originals.find("mnist", mnist))
    assert np.array_equal(np.concatenate([data.train.x, data.validation.x]), published["train"][0])
    assert np.array_equal(np.concatenate([data.train.y, data.validation.y]), published["train"][1])
    assert np.array_equal(data.test.x, published["test"][0])
    assert np.array_equal(data.test.y, published["test"][1])
    assert data.train.x.shape == (36, 28, 28, 1)
    assert data.train.x.dtype == np.uint8
    assert data.note == ""
    assert data.train.y.dtype == np.int32
    assert "tensorflow" not in sys.modules


def test_the_second_load_prepares_nothing(mnist, monkeypatch):
    first = load("mnist", mnist)
    monkeypatch.setattr(originals, "read", None)
    assert np.array_equal(load("mnist", mnist).train.x, first.train.x)
    assert np.array_equal(load("mnist").train.x, first.train.x)


def test_the_data_dir_may_hold_many_sets_and_be_named_by_the_environment(tmp_path, monkeypatch):
    files = idx_files(seed=7)
    publish(monkeypatch, "fashion_mnist", files)
    monkeypatch.setitem(originals.TRAIN, "fashion_mnist", 40)
    write(tmp_path / "all" / "fashion_mnist", files)
    write(tmp_path / "all", idx_files())  # MNIST's files have the same names
    monkeypatch.setenv("JEVO_DATA_DIR", str(tmp_path / "all"))
    data = load("fashion_mnist")
    assert data.classes[0] == "T-shirt/top"
    assert np.array_equal(data.test.x[..., 0], images(7 + 8, 8, 28, 28)[0])


def test_originals_are_only_read(mnist):
    for path in (*mnist.iterdir(), mnist):
        path.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in (mnist, *mnist.iterdir())}
    load("mnist", mnist)
    assert {path: path.stat().st_mtime_ns for path in (mnist, *mnist.iterdir())} == before
    mnist.chmod(0o755)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
def test_damaged_originals(mnist, damage):
    path = mnist / "train-images-idx3-ubyte.gz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    cut = {"truncate": bytes(raw[:-9]), "flip": bytes(raw), "empty": b""}
    path.write_bytes(cut[damage]) if damage in cut else path.unlink()
    line = fails("mnist", mnist)
    assert path.name in line
    assert ("missing" if damage == "remove" else "sha256") in line


def test_damaged_originals_are_noticed_beside_a_good_cache(mnist):
    load("mnist", mnist)
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(b"x")
    assert "t10k-labels" in fails("mnist", mnist)


def test_no_originals(tmp_path):
    assert "train-images-idx3-ubyte.gz" in fails("mnist", tmp_path)
    assert "cifar-10-batches-py" in fails("cifar10", tmp_path)
    assert "not a folder" in fails("mnist", tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["truncate", "flip", "garbage", "other arrays"])
def test_a_damaged_cache_is_rebuilt(mnist, damage):
    expected = load("mnist", mnist).train.x
    path = cache.folder() / "mnist" / "arrays.npz"
    raw = bytearray(path.read_bytes())
    if damage == "other arrays":
        np.savez(path, digest=np.zeros(32, np.uint8), x_train=np.zeros(3))
    else:
        raw[len(raw) // 2] ^= 255
        path.write_bytes({"truncate": raw[:-50], "flip": raw, "garbage": b"garbage"}[damage])
    assert cache.read(path) is None
    assert np.array_equal(load("mnist", mnist).train.x, expected)
    assert cache.read(path) is not None


def test_any_flipped_byte_of_a_cache_is_noticed(tmp_path):
    path = tmp_path / "arrays.npz"
    cache.write(path, {"x": np.arange(20, dtype=np.uint8)})
    raw = path.read_bytes()
    for i in range(len(raw)):
        path.write_bytes(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :])
        found = cache.read(path)  # a byte that carries nothing, such as a date, may change
        assert found is None or (list(found) == ["x"] and np.array_equal(found["x"], np.arange(20)))


def test_a_failed_write_leaves_the_old_cache(tmp_path, monkeypatch):
    path = tmp_path / "arrays.npz"
    cache.write(path, {"x": np.ones(3)})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="space"):
        cache.write(path, {"x": np.zeros(3)})
    found = cache.read(path)
    assert found is not None
    assert found["x"].sum() == 3
    assert [p.name for p in tmp_path.iterdir() if "arrays" in p.name] == ["arrays.npz"]


def test_a_cache_folder_that_cannot_be_used(mnist, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JEVO_CACHE", str(tmp_path / "file" / "cache"))
    assert "JEVO_CACHE" in fails("mnist", mnist)


def test_two_processes_prepare_one_set(mnist, tmp_path):
    code = (
        "import sys; from pathlib import Path; from jevo.data import image_sets, originals\n"
        "files = {path.name: path for path in Path(sys.argv[1]).iterdir()}\n"
        "print(image_sets.arrays('mnist', files)['x_train'].sum())"
    )
    command = [sys.executable, "-c", code, str(mnist)]
    root = Path(__file__).resolve().parents[1]
    pipe, merge = subprocess.PIPE, subprocess.STDOUT  # nobody must have anything to say, either
    both = [subprocess.Popen(command, stdout=pipe, stderr=merge, text=True, cwd=root) for _ in range(2)]
    sums = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert sums == {f"{image_sets.arrays('mnist')['x_train'].sum()}\n"}
    assert [path.name for path in (cache.folder() / "mnist").glob("*arrays*")] == ["arrays.npz"]


def test_no_network(monkeypatch):
    requests = pytest.importorskip("requests")

    def refuse(*_, **__):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests.Session, "get", refuse)
    line = fails("mnist")
    assert "no connection" in line
    assert "data_dir" in line


def downloads(monkeypatch, name, files, folder):
    """Lets TFDS download the generated `files` of the set `name`, with their checksums."""
    import requests

    known = image_sets.checksums(name)

    def get(_, url, **__):
        response = requests.Response()
        response.status_code, response.url = 200, url
        response.raw = io.BytesIO(files[url.rsplit("/", 1)[1]])
        return response

    infos = {}
    for url, info in known.items():
        raw = files[info.filename]
        infos[url] = type(info)(len(raw), hashlib.sha256(raw).hexdigest(), info.filename)
    monkeypatch.setattr(requests.Session, "get", get)
    monkeypatch.setattr(image_sets, "checksums", lambda name: infos)


@pytest.mark.parametrize("broken", [False, True])
def test_a_download_is_checked(monkeypatch, tmp_path, broken):
    files = idx_files()
    downloads(monkeypatch, "mnist", files, tmp_path)
    monkeypatch.setitem(originals.TRAIN, "mnist", 40)
    if broken:
        files["train-images-idx3-ubyte.gz"] = files["train-images-idx3-ubyte.gz"][:-1]
        assert "NonMatchingChecksumError" in fails("mnist")
    else:
        assert np.array_equal(load("mnist").test.x[..., 0], images(8, 8, 28, 28)[0])
        assert (cache.folder() / "mnist" / "downloads").is_dir()


def test_the_checksums_are_those_of_tfds():
    for name, known in originals.CHECKSUMS.items():
        for info in image_sets.checksums(name).values():
            assert known[info.filename] == info.checksum


def test_without_tfds_a_download_is_refused_and_original_files_are_read(mnist, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    image_sets.checksums.cache_clear()
    line = fails("mnist")
    assert "tensorflow-datasets" in line
    assert "data_dir" in line
    assert len(load("mnist", mnist).train.x) == 36


def binary_tar():
    return tar(
        {
            f"cifar-10-batches-bin/{name}.bin": np.concatenate([y[:, None], x], axis=1).tobytes()
            for name, (x, y) in cifar10_batches().items()
        }
    )


def test_cifar10_is_the_same_from_each_form_of_its_originals(cifar10, tmp_path, monkeypatch):
    x, y = cifar10_expected(*originals.CIFAR10_TRAIN)
    python_tar = tar({f"cifar-10-batches-py/{k}": pickled(*batch) for k, batch in cifar10_batches().items()})
    for file, raw in (("cifar-10-python.tar.gz", python_tar), ("cifar-10-binary.tar.gz", binary_tar())):
        publish(monkeypatch, "cifar10", {file: raw})
        write(tmp_path / file.split(".")[0], {file: raw})
    for folder in ("originals", "originals/cifar-10-batches-py", "cifar-10-python", "cifar-10-binary"):
        monkeypatch.setenv("JEVO_CACHE", str(tmp_path / "caches" / folder))
        data = load("cifar10", tmp_path / folder)
        assert np.array_equal(np.concatenate([data.train.x, data.validation.x]), x)
        assert np.array_equal(np.concatenate([data.train.y, data.validation.y]), y)
        assert np.array_equal(data.test.x, cifar10_expected("test_batch")[0])
        assert data.note == ""
        assert data.classes[3] == "cat"


def test_cifar10_is_downloaded(cifar10, tmp_path, monkeypatch):
    downloads(monkeypatch, "cifar10", {"cifar-10-binary.tar.gz": binary_tar()}, tmp_path)
    assert np.array_equal(load("cifar10").test.x, cifar10_expected("test_batch")[0])


def test_part_of_an_incomplete_cifar10(cifar10):
    folder = cifar10 / "cifar-10-batches-py"
    for i in (3, 4, 5):
        (folder / f"data_batch_{i}").unlink()
    line = fails("cifar10", cifar10)
    assert "data_batch_3, data_batch_4, data_batch_5 missing" in line
    assert "cifar10[:12]" in line
    assert "data_batch_3" in fails("cifar10[:13]", cifar10)
    data = load("cifar10[:12]", cifar10, validation=2)
    assert np.array_equal(
        np.concatenate([data.train.x, data.validation.x]), cifar10_expected("data_batch_1", "data_batch_2")[0]
    )
    assert data.note == "partial: 12 of 30 train images (0 to 11, train batches 1, 2)"
    assert len(data.test.y) == BATCH
    later = load("cifar10[7:12]", cifar10, validation=1)  # lies in the second batch only
    assert np.array_equal(later.train.x, cifar10_expected("data_batch_2")[0][1:-1])
    assert later.note == "partial: 5 of 30 train images (7 to 11, train batches 2)"


def test_a_partial_cache_is_not_taken_for_the_whole_set(cifar10, tmp_path):
    partial = tmp_path / "partial"
    write(partial, {k: pickled(*cifar10_batches()[k]) for k in ("data_batch_1", "test_batch")})
    load("cifar10[:6]", partial)
    whole = load("cifar10", cifar10)
    assert len(whole.train.y) + len(whole.validation.y) == 30
    load("cifar10[:6]", partial)
    assert "missing" in fails("cifar10", partial)
    assert len(load("cifar10[:6]", cifar10).train.y) == 5


@pytest.mark.parametrize(
    ("missing", "hint"),
    [("data_batch_1", "cifar10[6:30]"), ("data_batch_4", "cifar10[:18]"), ("test_batch", "put the original")],
)
def test_one_missing_batch(cifar10, missing, hint):
    (cifar10 / "cifar-10-batches-py" / missing).unlink()
    line = fails("cifar10", cifar10)
    assert f"{missing} missing" in line
    assert hint in line


def test_no_pickle_runs_unless_it_is_the_published_one(cifar10, tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "evil",))

    evil = pickle.dumps(Evil())
    (cifar10 / "cifar-10-batches-py" / "data_batch_2").write_bytes(evil)
    assert "md5" in fails("cifar10", cifar10)
    # Even in an archive whose checksum is right, each member is checked before it is unpickled.
    raw = tar({"cifar-10-batches-py/data_batch_1": evil})
    publish(monkeypatch, "cifar10", {"cifar-10-python.tar.gz": raw})
    write(tmp_path / "archive", {"cifar-10-python.tar.gz": raw})
    assert "data_batch_1 is damaged" in fails("cifar10", tmp_path / "archive")
    assert not (tmp_path / "evil").exists()


def test_slices_keep_the_published_order(mnist):
    x, y = originals.read("mnist", originals.find("mnist", mnist))["train"]
    data = load("mnist[10:30]", mnist, validation=0.25)
    assert np.array_equal(data.train.x, x[10:25])
    assert np.array_equal(data.validation.y, y[25:30])
    assert data.note == "partial: 20 of 40 train images (10 to 29)"
    assert data.name == "mnist[10:30]"
    assert load("mnist[:40]", mnist).note == ""
    assert len(load("mnist[35:]", mnist).train.y) == 4


@pytest.mark.parametrize("part", ["[:41]", "[40:]", "[5:5]", "[9:3]"])
def test_a_slice_out_of_range(mnist, part):
    assert "40 train images" in fails(f"mnist{part}", mnist)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mnsit", "did you mean mnist?"),
        ("fashion-mnist", "did you mean fashion_mnist?"),
        ("CIFAR10", "did you mean cifar10?"),
        ("imagenet", "digits, mnist, fashion_mnist, cifar10"),
        ("", "digits, mnist"),
        ("mnist[-5:]", "mnist[:1000]"),
        ("cifar10[::2]", "cifar10[:1000]"),
        ("digits[:100]", "use digits"),
        ("a\nb", "digits"),
    ],
)
def test_unknown_names(name, hint):
    assert hint in fails(name)


@pytest.mark.parametrize("validation", [0, -3, 1.5, True, float("nan"), 1_438, "5"])
def test_an_impossible_validation(validation):
    assert "validation" in fails("digits", validation=validation)


def test_loading_digits_or_from_the_cache_imports_no_tfds(mnist):
    load("mnist", mnist)
    code = (
        "import sys; from jevo.data.datasets import load\n"
        "from jevo.data import originals; originals.TRAIN['mnist'] = 40\n"
        "load('mnist'); assert 'sklearn' not in sys.modules; load('digits')\n"
        "assert not {'tensorflow_datasets', 'tensorflow'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_preparing_says_nothing(mnist, capfd):
    load("mnist", mnist)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_real
def test_real_mnist():
    data = load("mnist", REAL)
    assert [len(split.y) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    assert data.train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(data.train.x.mean() - 33.3) < 0.2


@pytest.mark.slow
@needs_real
def test_real_partial_cifar10():
    assert "cifar10[:20000]" in fails("cifar10", REAL)
    data = load("cifar10[:20000]", REAL)
    assert [len(split.y) for split in (data.train, data.validation, data.test)] == [18_000, 2_000, 10_000]
    assert data.note == "partial: 20,000 of 50,000 train images (0 to 19,999, train batches 1, 2)"
    assert data.train.y[:5].tolist() == [6, 9, 9, 4, 1]
    assert data.classes[data.train.y[0]] == "frog"


def test_channels_before_height_and_width_are_said(tmp_path):
    y = np.arange(60) % 3
    for shape, says in (((3, 8, 9), True), ((8, 9, 3), False), ((8, 9), False), ((5,), False)):
        x = np.random.default_rng(0).integers(0, 256, (60, *shape)).astype(np.uint8)
        np.savez(tmp_path / "images.npz", x_train=x, y_train=y)
        taken = load(tmp_path / "images.npz").taken
        assert any("convolutions take the last axis for the channels" in line for line in taken) == says
