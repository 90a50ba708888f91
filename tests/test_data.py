"""The shared arrays: what they hold, where they come from, and what is left when something goes wrong."""

import errno
import gzip
import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from rosetta.data import DataError, Progress, arrays, check, load_manifest, prepare, write_arrays
from rosetta.data.imdb import ids
from rosetta.data.sources import ARCHIVES, FOLDER_VARIABLE
from rosetta.tasks import TASKS
from rosetta.worker.job import open_array, open_weights

PYTHON_FOLDER = str(Path(__file__).parent.parent / "python")
REAL_ARCHIVES = Path(os.environ.get(FOLDER_VARIABLE) or "/nonexistent")
NOWHERE = "http://127.0.0.1:9/"
"""The discard port, where nobody listens."""


class Notes(Progress):
    """Keeps the notes that a user would see."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch, tmp_path):
    """Few samples, no way to the network, and a cache and a folder of this test's own."""
    monkeypatch.setitem(TASKS, "cnn", replace(TASKS["cnn"], train=50, test=20))
    monkeypatch.setitem(TASKS, "rnn", replace(TASKS["rnn"], train=8, test=4))
    for name, archive in ARCHIVES.items():
        monkeypatch.setitem(ARCHIVES, name, replace(archive, url=NOWHERE + archive.name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


@pytest.fixture
def folder(tmp_path):
    """A user's folder with both archives, small ones of the published layout."""
    folder = tmp_path / "archives"
    folder.mkdir()
    write_archive(folder / ARCHIVES["cnn"].name, cifar_members())
    write_archive(folder / ARCHIVES["rnn"].name, imdb_members())
    return folder


@pytest.fixture
def published(monkeypatch, folder):
    """Makes the small archives the published ones, checksum and all."""
    for name, archive in ARCHIVES.items():
        content = (folder / archive.name).read_bytes()
        known = replace(archive, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        monkeypatch.setitem(ARCHIVES, name, known)
    return folder


@pytest.fixture
def server(folder):
    """The user's folder behind a web address."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def cifar_records():
    """uint8 [70, 3073]: class, then pixels; 50 for training, 20 for the test."""
    records = np.random.RandomState(7).randint(256, size=(70, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    return records


def cifar_members():
    """The batches as the archive names them, not in their order, and a text that is of no interest."""
    records = cifar_records()
    batches = {f"cifar-10-batches-bin/data_batch_{i + 1}.bin": records[10 * i : 10 * i + 10] for i in (3, 0, 4, 2, 1)}
    batches["cifar-10-batches-bin/test_batch.bin"] = records[50:]
    return {"cifar-10-batches-bin/readme.html": b"hello"} | {name: rows.tobytes() for name, rows in batches.items()}


def imdb_members():
    """12 reviews with a word of their own each, that tells split, label and number; unlabelled ones beside them."""
    members = {"aclImdb/train/unsup/0_0.txt": b"unlabelled", "aclImdb/imdb.vocab": b"the\n"}
    for split, count in (("train", 4), ("test", 2)):
        for label in ("pos", "neg"):
            for number in range(count):
                members[f"aclImdb/{split}/{label}/{number}_7.txt"] = f"The film. The {split}{label}{number}".encode()
    return members


def left_in(path):
    """Names in a folder, but for locks, which stay and are empty."""
    return sorted(entry.name for entry in path.iterdir() if not entry.name.endswith(".lock"))


def run_prepare(*arguments, **more):
    """Starts `prepare` in a process of its own, with tasks of full size; it prints the manifest's hash."""
    code = f"from rosetta.data import prepare; print(prepare(*{arguments!r}, **{more!r})['sha256'])"
    environment = {**os.environ, "PYTHONPATH": PYTHON_FOLDER}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


class TestCifar10:
    def test_arrays_hold_the_bytes_of_the_archive_in_its_order(self, tmp_path, folder):
        prepare("cnn", tmp_path / "cnn", "real", folder, accept_other_checksum=True, progress=Progress())
        records = cifar_records()
        x, y = open_array(tmp_path / "cnn", "x_train"), open_array(tmp_path / "cnn", "y_train")
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        assert np.array_equal(x, (records[:50, 1:].reshape(50, 3, 32, 32) / 255).astype(np.float32))
        assert np.array_equal(y, records[:50, 0])
        x, y = open_array(tmp_path / "cnn", "x_test"), open_array(tmp_path / "cnn", "y_test")
        assert np.array_equal(x, (records[50:, 1:].reshape(20, 3, 32, 32) / 255).astype(np.float32))
        assert np.array_equal(y, records[50:, 0])

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("data_batch_2.bin", None, "data_batch_2.bin is missing in the archive"),
            ("data_batch_2.bin", bytes(3073), "data_batch_2.bin has 3073 bytes, 30730 expected"),
            ("test_batch.bin", bytes(10**6), "test_batch.bin has 1000000 bytes, at most 61460 expected"),
            ("test_batch.bin", bytes([10]) * 61460, "test_batch.bin has a class above 9"),
        ],
    )
    def test_an_archive_with_other_contents_is_refused(self, tmp_path, name, content, message):
        members = cifar_members()
        members["cifar-10-batches-bin/" + name] = content
        write_archive(tmp_path / ARCHIVES["cnn"].name, {k: v for k, v in members.items() if v is not None})
        with pytest.raises(DataError, match=message):
            prepare("cnn", tmp_path / "cnn", "real", tmp_path, accept_other_checksum=True, progress=Progress())
        assert left_in(tmp_path) == [ARCHIVES["cnn"].name]


class TestImdb:
    def test_words_are_ranked_by_frequency_then_by_first_appearance(self):
        # b three times: rank 1, id 4. a twice: 5. c before d, once each: 6 and 7.
        assert ids([b"a b c b", b"d a b"], 6, 100).tolist() == [[1, 5, 4, 6, 4, 0], [1, 7, 5, 4, 0, 0]]

    def test_filters_and_capitals_are_keras_s(self):
        text = b"It's GOOD!<br />good (good) x-y_z\tgood\nIt's"
        # it's stays one word: the apostrophe is no filter character. good 4 times: 4; it's 2: 5; br x y z: 6 7 8 9.
        assert ids([text], 13, 100).tolist() == [[1, 5, 4, 6, 4, 4, 7, 8, 9, 4, 5, 0, 0]]

    def test_letters_beyond_ascii_have_a_lower_case_and_other_spaces_belong_to_words(self):
        text = "É é a\xa0b a\rb a".encode()
        assert ids([text], 6, 100).tolist() == [[1, 4, 4, 5, 6, 7]]

    def test_words_beyond_the_vocabulary_become_2(self):
        assert ids([b"a a a b b c"], 7, 6).tolist() == [[1, 4, 4, 4, 5, 5, 2]]

    def test_the_last_tokens_are_kept_and_the_start_counts_as_one(self):
        assert ids([b"a b c"], 4, 100).tolist() == [[1, 4, 5, 6]]
        assert ids([b"a b c"], 3, 100).tolist() == [[4, 5, 6]]
        assert ids([b"a b c", b""], 2, 100).tolist() == [[5, 6], [1, 0]]

    def test_agrees_with_a_plain_reading_of_the_rules(self):
        """On random texts, with characters for which Unicode's rules are odd."""
        random = np.random.RandomState(3)
        alphabet = list("aAbB .,!'-\t\n\r\xa0éÉİıßΣςK😀")
        texts = ["".join(random.choice(alphabet, random.randint(80))) for _ in range(300)]
        filters = str.maketrans({character: " " for character in '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'})
        reviews = [[word for word in text.lower().translate(filters).split(" ") if word] for text in texts]
        counts = {}
        for word in (word for review in reviews for word in review):
            counts[word] = counts.get(word, 0) + 1
        ranked = sorted(counts, key=lambda word: -counts[word])
        id_of = {word: rank + 3 if rank + 3 < 50 else 2 for rank, word in enumerate(ranked, 1)}
        expected = [([1] + [id_of[word] for word in review])[-20:] for review in reviews]
        expected = [review + [0] * (20 - len(review)) for review in expected]
        assert ids([text.encode() for text in texts], 20, 50).tolist() == expected

    def test_labels_stay_with_their_reviews_through_the_shuffle(self, tmp_path, folder):
        prepare("rnn", tmp_path / "rnn", "real", folder, accept_other_checksum=True, progress=Progress())
        # the (24 times): 4, film: 5; then one word a review in the order of names: test/neg/0 is 6, train/pos/3 17.
        seen = []
        for split, neg, pos in (("test", (6, 7), (8, 9)), ("train", (10, 11, 12, 13), (14, 15, 16, 17))):
            x, y = open_array(tmp_path / "rnn", f"x_{split}"), open_array(tmp_path / "rnn", f"y_{split}")
            assert (x.dtype, y.dtype, x.shape) == (np.int64, np.int64, (len(neg + pos), 150))
            assert x[:, :4].tolist() == [[1, 4, 5, 4]] * len(x)
            assert not x[:, 5:].any()
            assert dict(zip(x[:, 4].tolist(), y.tolist())) == dict.fromkeys(neg, 0) | dict.fromkeys(pos, 1)
            seen += x[:, 4].tolist()
        assert seen != sorted(seen), "the archive is sorted by label; training needs a mixed order"

    def test_a_missing_review_is_noticed(self, tmp_path):
        members = imdb_members()
        del members["aclImdb/train/pos/2_7.txt"]
        write_archive(tmp_path / ARCHIVES["rnn"].name, members)
        with pytest.raises(DataError, match="3 reviews in aclImdb/train/pos, 4 expected"):
            prepare("rnn", tmp_path / "rnn", "real", tmp_path, accept_other_checksum=True, progress=Progress())


class TestPictures:
    def test_the_first_pictures_are_the_same_for_every_count(self, tmp_path):
        for count in (3, 5):
            prepare("resnet50", tmp_path / str(count), pictures=count, progress=Progress())
        few, many = (open_array(tmp_path / str(count), "x") for count in (3, 5))
        assert (few.shape, many.shape, few.dtype) == ((3, 3, 224, 224), (5, 3, 224, 224), np.float32)
        assert np.array_equal(few, many[:3])
        assert not np.array_equal(many[3], many[4])

    def test_they_are_uniform_and_normalized(self, tmp_path):
        prepare("resnet50", tmp_path / "x", pictures=4, progress=Progress())
        x = open_array(tmp_path / "x", "x") * [[[0.229]], [[0.224]], [[0.225]]] + [[[0.485]], [[0.456]], [[0.406]]]
        assert -1e-6 < x.min() < 0.001
        assert 0.999 < x.max() < 1 + 1e-6
        assert np.allclose(x.mean(axis=(0, 2, 3)), 0.5, atol=0.005)


class TestSynthetic:
    def test_follows_from_the_seed(self, tmp_path):
        for name in ("cnn", "rnn"):
            one, same, other = (
                prepare(name, tmp_path / f"{name}{run}", "synthetic", seed=seed, progress=Progress())
                for run, seed in enumerate((5, 5, 6))
            )
            assert one["sha256"] == same["sha256"] != other["sha256"]
            assert one["source"] == "synthetic"
            assert one["statement"] == f"synthetic arrays, not {ARCHIVES[name].title}"

    def test_pictures_look_like_the_real_ones_to_a_leg(self, tmp_path, monkeypatch):
        monkeypatch.setitem(TASKS, "cnn", replace(TASKS["cnn"], train=4_100, test=1_000))
        prepare("cnn", tmp_path, "synthetic", progress=Progress())
        x, y, x_test, y_test = (open_array(tmp_path, name) for name in ("x_train", "y_train", "x_test", "y_test"))
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((4_100, 3, 32, 32), np.float32, (4_100,), np.int64)
        assert np.array_equal(x, (np.round(x * 255) / 255).astype(np.float32)), "a byte / 255"
        assert (x.min(), x.max()) == (0, 1)
        assert np.bincount(y).min() > 300
        centres = np.stack([x[y == label].mean(axis=0) for label in range(10)]).reshape(10, -1)
        distances = ((x_test.reshape(-1, 1, 3072)[:200] - centres) ** 2).sum(axis=2)
        assert np.mean(distances.argmin(axis=1) == y_test[:200]) > 0.95, "the test set has the training set's signal"

    def test_reviews_look_like_the_real_ones_to_a_leg(self, tmp_path, monkeypatch):
        monkeypatch.setitem(TASKS, "rnn", replace(TASKS["rnn"], train=4_100, test=1_000))
        prepare("rnn", tmp_path, "synthetic", progress=Progress())
        x, y, x_test, y_test = (open_array(tmp_path, name) for name in ("x_train", "y_train", "x_test", "y_test"))
        assert (x.shape, x.dtype, y.shape, y.dtype) == ((4_100, 150), np.int64, (4_100,), np.int64)
        assert x.min() == 0
        assert 29_000 < x.max() < 30_000
        assert not (x == 3).any()
        assert set(np.unique(x[:, 0] == 1)) == {True, False}
        assert not (x[:, 1:] == 1).any()
        for review in x[x[:, -1] == 0]:
            assert not review[np.argmin(review) :].any(), "zeros only behind"
        counts = np.stack([np.bincount(x[y == label].ravel(), minlength=30_000) for label in (0, 1)]) + 1.0
        evidence = np.log(counts[1] / counts[0])
        assert np.mean((evidence[x_test].sum(axis=1) > 0) == y_test) > 0.95

    def test_is_what_is_left_without_a_network_and_says_so(self, tmp_path):
        notes = Notes()
        manifest = prepare("cnn", tmp_path / "cnn", progress=notes)
        assert manifest["source"] == "synthetic"
        assert manifest["archive"] is None
        assert "SYNTHETIC ARRAYS, NOT CIFAR-10" in notes.lines[0]
        assert "cannot be reached" in notes.lines[0]

    def test_is_refused_where_real_data_is_asked_for(self, tmp_path):
        with pytest.raises(DataError, match="cannot be reached.*ROSETTA_DATA_DIR"):
            prepare("cnn", tmp_path / "cnn", "real", progress=Progress())
        assert left_in(tmp_path) == ["cache"]


class TestSources:
    def test_an_archive_with_the_published_checksum(self, tmp_path, published):
        manifest = prepare("rnn", tmp_path / "rnn", folder=published, progress=Progress())
        assert manifest["source"] == "archive"
        assert manifest["archive"] == {"name": "aclImdb_v1.tar.gz", "sha256": ARCHIVES["rnn"].sha256}
        assert manifest == load_manifest(tmp_path / "rnn")

    def test_the_environment_names_the_folder(self, tmp_path, published, monkeypatch):
        monkeypatch.setenv(FOLDER_VARIABLE, str(published))
        assert prepare("cnn", tmp_path / "cnn", progress=Progress())["source"] == "archive"

    def test_another_checksum_needs_consent(self, tmp_path, folder):
        found = hashlib.sha256((folder / ARCHIVES["cnn"].name).read_bytes()).hexdigest()
        for source in ("auto", "real"):
            with pytest.raises(DataError) as caught:
                prepare("cnn", tmp_path / "cnn", source, folder, progress=Progress())
            message = str(caught.value)
            assert "\n" not in message
            assert f"sha256 is {found}, expected {ARCHIVES['cnn'].sha256}" in message
            assert "accept_other_checksum: true" in message
            assert left_in(tmp_path) == ["archives"]
        manifest = prepare("cnn", tmp_path / "cnn", folder=folder, accept_other_checksum=True, progress=Progress())
        assert manifest["source"] == "archive with another checksum"
        assert manifest["archive"]["sha256"] == found
        with pytest.raises(DataError, match="wrong checksum"):
            prepare("cnn", tmp_path / "cnn", folder=folder, progress=Progress())
        check(tmp_path / "cnn", full=True)

    @pytest.mark.parametrize("accept", [False, True])
    @pytest.mark.parametrize("kept", [0.5, 0.0])
    def test_a_truncated_archive(self, tmp_path, published, accept, kept):
        path = published / ARCHIVES["cnn"].name
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(DataError, match=f"{path}: truncated.* fetch it again"):
            prepare("cnn", tmp_path / "cnn", folder=published, accept_other_checksum=accept, progress=Progress())
        assert left_in(tmp_path) == ["archives"]

    def test_a_tar_that_ends_early_inside_a_whole_gzip(self, tmp_path, folder):
        path = folder / ARCHIVES["rnn"].name
        content = gzip.decompress(path.read_bytes())
        path.write_bytes(gzip.compress(content[: 512 * 9 + 10]))
        with pytest.raises(DataError, match="truncated"):
            prepare("rnn", tmp_path / "rnn", folder=folder, accept_other_checksum=True, progress=Progress())

    def test_what_is_no_archive(self, tmp_path, folder):
        (folder / ARCHIVES["rnn"].name).write_bytes(b"<html>not found</html>")
        with pytest.raises(DataError, match="damaged or not a .tar.gz"):
            prepare("rnn", tmp_path / "rnn", folder=folder, accept_other_checksum=True, progress=Progress())

    def test_a_missing_folder_and_a_folder_without_the_archive(self, tmp_path):
        with pytest.raises(DataError, match="nowhere: no such folder.*data_folder.*ROSETTA_DATA_DIR"):
            prepare("cnn", tmp_path / "cnn", folder=tmp_path / "nowhere", progress=Progress())
        with pytest.raises(DataError, match="cifar-10-binary.tar.gz: no such archive; put it there"):
            prepare("cnn", tmp_path / "cnn", folder=tmp_path, progress=Progress())
        assert left_in(tmp_path) == []

    def test_unknown_names(self, tmp_path):
        with pytest.raises(DataError, match="lstm: no such task; there are cnn, rnn, resnet50"):
            prepare("lstm", tmp_path / "x")
        with pytest.raises(DataError, match="'reel': no such source; there are auto, real, synthetic"):
            prepare("cnn", tmp_path / "x", "reel")

    def test_a_download_is_checked_and_kept(self, tmp_path, published, server, monkeypatch):
        monkeypatch.setitem(ARCHIVES, "cnn", replace(ARCHIVES["cnn"], url=server + ARCHIVES["cnn"].name))
        manifest = prepare("cnn", tmp_path / "cnn", "real", progress=Progress())
        assert manifest["source"] == "official"
        assert np.array_equal(open_array(tmp_path / "cnn", "y_train"), cifar_records()[:50, 0])
        (published / ARCHIVES["cnn"].name).unlink()
        again = prepare("cnn", tmp_path / "again", "real", progress=Progress())
        assert again["sha256"] == manifest["sha256"]

    def test_a_download_with_another_checksum_is_refused_and_not_kept(self, tmp_path, folder, server, monkeypatch):
        monkeypatch.setitem(ARCHIVES, "cnn", replace(ARCHIVES["cnn"], url=server + ARCHIVES["cnn"].name))
        with pytest.raises(DataError, match="wrong checksum: what came is not the archive"):
            prepare("cnn", tmp_path / "cnn", progress=Progress())
        assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
        assert left_in(tmp_path) == ["archives", "cache"]


class TestWhatIsPreparedAlready:
    def test_is_kept_even_without_its_source(self, tmp_path, published):
        first = prepare("cnn", tmp_path / "cnn", folder=published, progress=Progress())
        before = (tmp_path / "cnn" / "manifest.json").stat()
        for more in ({}, {"folder": published}, {"source": "real"}, {"folder": tmp_path / "unplugged"}):
            assert prepare("cnn", tmp_path / "cnn", progress=Progress(), **more) == first
        after = (tmp_path / "cnn" / "manifest.json").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    def test_is_replaced_when_something_else_is_asked_for(self, tmp_path, published):
        target = tmp_path / "cnn"
        kinds = [
            prepare("cnn", target, progress=Progress(), **more)["source"]
            for more in ({}, {"source": "synthetic"}, {"folder": published}, {"source": "synthetic"})
        ]
        assert kinds == ["synthetic", "synthetic", "archive", "synthetic"]
        with pytest.raises(DataError, match="cannot be reached"):
            prepare("cnn", target, "real", progress=Progress())
        assert load_manifest(target)["source"] == "synthetic"
        few = prepare("resnet50", tmp_path / "resnet50", pictures=2, progress=Progress())
        more = prepare("resnet50", tmp_path / "resnet50", pictures=3, progress=Progress())
        assert [manifest["arrays"][0]["shape"][0] for manifest in (few, more)] == [2, 3]

    def test_another_archive_of_the_user_s_is_not_taken_for_the_first(self, tmp_path, folder):
        consent = {"folder": folder, "accept_other_checksum": True, "progress": Progress()}
        first = prepare("rnn", tmp_path / "rnn", **consent)
        members = imdb_members()
        members["aclImdb/test/neg/0_7.txt"] = b"Something else"
        write_archive(folder / ARCHIVES["rnn"].name, members)
        assert prepare("rnn", tmp_path / "rnn", **consent)["sha256"] != first["sha256"]

    def test_a_truncated_array_is_named_and_made_anew(self, tmp_path, published):
        target, notes = tmp_path / "cnn", Notes()
        first = prepare("cnn", target, folder=published, progress=notes)
        path = target / "x_test.npy"
        os.truncate(path, 1_000)
        with pytest.raises(DataError, match=f"{path}: truncated: 1000 bytes instead of 245888; remove {target}"):
            check(target)
        assert prepare("cnn", target, folder=published, progress=notes) == first
        assert "x_test.npy: truncated" in notes.lines[0]
        check(target, full=True)

    def test_a_changed_byte_is_found_by_the_full_check(self, tmp_path):
        prepare("rnn", tmp_path, "synthetic", progress=Progress())
        with open(tmp_path / "y_test.npy", "r+b") as file:
            file.seek(130)
            file.write(b"\xff")
        check(tmp_path)
        with pytest.raises(DataError, match="y_test.npy: changed: sha256 is"):
            check(tmp_path, full=True)

    def test_missing_pieces_are_named(self, tmp_path):
        with pytest.raises(DataError, match="manifest.json: not there; `rosetta prepare` makes it"):
            check(tmp_path / "cnn")
        prepare("rnn", tmp_path / "rnn", "synthetic", progress=Progress())
        (tmp_path / "rnn" / "x_train.npy").unlink()
        with pytest.raises(DataError, match="x_train.npy: unreadable"):
            check(tmp_path / "rnn")
        (tmp_path / "rnn" / "manifest.json").write_text("{")
        with pytest.raises(DataError, match="manifest.json: unreadable"):
            check(tmp_path / "rnn")


class TestWriting:
    def test_weights_come_back_bit_for_bit_and_in_order(self, tmp_path):
        random = np.random.RandomState(1)
        weights = {
            "conv1.weight": random.randn(5, 3, 3, 3).astype(np.float32),
            "a.bias": random.randn(7).astype(np.float32),
            "transposed": random.randn(4, 6).astype(np.float32).T,
        }
        manifest = write_arrays(tmp_path / "weights", weights.items(), {"seed": 3})
        assert manifest == load_manifest(tmp_path / "weights")
        assert manifest["seed"] == 3
        found = open_weights(tmp_path / "weights")
        assert list(found) == list(weights)
        for entry in manifest["arrays"]:
            assert np.array_equal(found[entry["name"]], weights[entry["name"]])
            content = (tmp_path / "weights" / f"{entry['name']}.npy").read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"])

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(DataError, match="file/cnn: cannot be written .*choose another folder"):
            prepare("cnn", tmp_path / "file" / "cnn", "synthetic", progress=Progress())

    def test_too_little_space_is_noticed_before_anything_is_written(self, tmp_path):
        with pytest.raises(DataError, match=rf"disk full: .* MB needed \({10**18} bytes\), .* MB free"):
            write_arrays(tmp_path / "x", [("x", np.zeros(3))], {}, bytes_needed=10**18)
        assert left_in(tmp_path) == []

    def test_a_disk_that_fills_up_while_it_is_written(self, tmp_path, monkeypatch):
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = (
            os.geteuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], stderr=subprocess.DEVNULL, check=False
            ).returncode
        )
        if not mounted:

            def full(file):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(arrays, "flush_to_disk", full)
        try:
            with pytest.raises(DataError, match="disk full; free some space or choose another disk"):
                write_arrays(disk / "x", [("small", np.zeros(9)), ("large", np.zeros(10**6))], {})
            assert left_in(disk) == []
            if mounted:
                with pytest.raises(DataError, match=r"rnn: disk full: .* MB needed"):
                    prepare("resnet50", disk / "rnn", progress=Progress())
                assert left_in(disk) == []
        finally:
            if mounted:
                subprocess.run(["umount", disk], check=True)

    def test_an_error_while_arrays_are_made_leaves_the_earlier_ones(self, tmp_path):
        def failing():
            yield "x", np.ones(3)
            raise KeyboardInterrupt

        first = write_arrays(tmp_path / "x", [("x", np.zeros(3))], {})
        with pytest.raises(KeyboardInterrupt):
            write_arrays(tmp_path / "x", failing(), {})
        assert left_in(tmp_path) == ["x"]
        assert load_manifest(tmp_path / "x") == first
        check(tmp_path / "x", full=True)

    def test_ctrl_c_leaves_nothing_behind(self, tmp_path):
        process = run_prepare("cnn", str(tmp_path / "cnn"), "synthetic")
        wait_for((tmp_path / ".cnn.partial" / "x_train.npy").exists)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert "KeyboardInterrupt" in errors
        assert left_in(tmp_path) == []

    def test_what_a_killed_process_left_is_cleared_by_the_next(self, tmp_path):
        process = run_prepare("cnn", str(tmp_path / "cnn"), "synthetic")
        wait_for((tmp_path / ".cnn.partial" / "x_train.npy").exists)
        process.kill()
        process.communicate(timeout=60)
        assert left_in(tmp_path) == [".cnn.partial"]
        prepare("cnn", tmp_path / "cnn", "synthetic", progress=Progress())
        assert left_in(tmp_path) == ["cnn"]

    def test_a_process_killed_between_the_two_renames_loses_nothing(self, tmp_path):
        first = write_arrays(tmp_path / "x", [("x", np.zeros(3))], {})
        (tmp_path / "x").rename(tmp_path / ".x.old")
        with pytest.raises(DataError, match="disk full"):
            write_arrays(tmp_path / "x", [], {}, bytes_needed=10**18)
        assert load_manifest(tmp_path / "x") == first

    def test_two_at_once_wait_for_each_other(self, tmp_path):
        target = tmp_path / "resnet50"
        with arrays.locked(target):
            both = [run_prepare("resnet50", str(target), pictures=4) for _ in range(2)]
            time.sleep(3)
            assert [process.poll() for process in both] == [None, None]
            assert not target.exists()
        outputs = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert {printed.strip() for printed, _ in outputs} == {load_manifest(target)["sha256"]}
        assert all("another process is writing it" in errors for _, errors in outputs)
        check(target, full=True)


@pytest.mark.skipif(
    not all((REAL_ARCHIVES / archive.name).is_file() for archive in ARCHIVES.values()),
    reason=f"{FOLDER_VARIABLE} names no folder with both archives",
)
class TestRealArchives:
    def test_arrays_are_the_real_ones_within_1500_megabytes(self, tmp_path):
        code = (
            "import resource, sys; from rosetta.data import prepare; "
            "prepare(sys.argv[1], sys.argv[2], 'real', sys.argv[3], True); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        for name in ("cnn", "rnn"):
            done = subprocess.run(
                [sys.executable, "-c", code, name, str(tmp_path / name), str(REAL_ARCHIVES)],
                env={**os.environ, "PYTHONPATH": PYTHON_FOLDER},
                capture_output=True,
                text=True,
                check=True,
            )
            assert float(done.stdout) < 1_500

        x, y = open_array(tmp_path / "cnn", "x_train"), open_array(tmp_path / "cnn", "y_train")
        assert (x.shape, x.dtype) == ((50_000, 3, 32, 32), np.float32)
        assert np.bincount(y).tolist() == [5_000] * 10
        # The mean colour of CIFAR-10's training pictures, as commonly used to normalize them.
        assert np.allclose(x[::10].mean(axis=(0, 2, 3)), [0.491, 0.482, 0.447], atol=0.01)

        x, y = open_array(tmp_path / "rnn", "x_train"), open_array(tmp_path / "rnn", "y_train")
        assert (x.shape, x.dtype) == ((25_000, 150), np.int64)
        assert np.bincount(y).tolist() == [12_500] * 2
        assert 0.4 < y[:1_000].mean() < 0.6
        counts = np.bincount(x.ravel(), minlength=30_000)
        assert len(counts) == 30_000
        assert counts[3] == 0
        assert counts[4:].argmax() == 0, "`the` is the most frequent word"
