import io
import json
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import maker, turns, write_wav

from audioflamingo.audio import load
from audioflamingo.errors import FlamingoError
from audioflamingo.train.data import TrainingDataError, load_corpus, parse_mixture, read_registry
from audioflamingo.train.data.tar_index import members
from audioflamingo.train.data.webdataset import shards_of

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_shard(path, num_rows=3, first=0, form="pax", more=()):
    wav = write_wav(path.with_suffix(".wav"), 0.4, seed=first)
    with tarfile.open(path, "w", format=FORMATS[form]) as archive:
        for number in range(first, first + num_rows):
            add(archive, f"{number:04}.wav", wav.read_bytes())
            row = {"conversations": turns("<sound>What is it?", f"Sound {number}.")}
            add(archive, f"{number:04}.json", json.dumps(row).encode())
        for name, content in more:
            add(archive, name, content)
    return path


def corpus_of(text, base, registry=None, **more):
    return load_corpus(parse_mixture(text, registry), maker(base, **more))


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_of_tar_is_read_as_tarfile_reads_it(tmp_path, form):
    names = ["a.txt", "d" * 90 + "/" + "e" * 40 + ".txt", "ümlaut.txt", "empty.txt"]
    if form != "ustar":
        names += ["x" * 300 + ".txt"]
    with tarfile.open(tmp_path / "x.tar", "w", format=FORMATS[form]) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in names:
            add(archive, name, b"" if "empty" in name else name.encode() * 100)
    with tarfile.open(tmp_path / "x.tar") as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive if m.isreg()]
    assert [(m.name, m.offset, m.size) for m in members(tmp_path / "x.tar")] == expected
    assert len(expected) == len(names)


@given(st.binary(max_size=3_000))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("tars") / "x.tar"
    path.write_bytes(content)
    with suppress(TrainingDataError):
        assert all(m.offset + m.size <= len(content) for m in members(path))


@given(st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 255)), max_size=8))
def test_damaged_tars_are_read_or_refused(tmp_path_factory, damages):
    path = tmp_path_factory.mktemp("tars") / "x.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "ü" * 70, b"12345")
        add(archive, "b.txt", b"x" * 600)
    content = bytearray(path.read_bytes())
    for place, value in damages:
        content[place] = value
    path.write_bytes(content)
    with suppress(TrainingDataError):
        assert all(m.offset + m.size <= len(content) for m in members(path))


def test_a_pax_header_or_a_size_that_lies_is_refused(tmp_path):
    info = tarfile.TarInfo("a.txt")
    info.size = 1 << 40
    (tmp_path / "big.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1_024))
    with pytest.raises(TrainingDataError, match="cut off"):
        list(members(tmp_path / "big.tar"))
    info = tarfile.TarInfo("long")
    info.type, info.size = b"x", 1 << 24
    (tmp_path / "pax.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 24))
    with pytest.raises(TrainingDataError, match="at most 65,536"):
        list(members(tmp_path / "pax.tar"))
    with tarfile.open(tmp_path / "x.tar.tar", "w:gz") as archive:
        add(archive, "a.txt", b"x")
    with pytest.raises(TrainingDataError, match="compressed"):
        list(members(tmp_path / "x.tar.tar"))


def test_shards_are_rows_as_files_would_be(tmp_path, base):
    for number in range(2):
        write_shard(tmp_path / f"s-{number:03}.tar", 3, 3 * number)
    corpus = corpus_of(str(tmp_path / "s-{000..001}.tar") + "*2", base)
    assert corpus.num_rows == 6
    assert len(corpus.samples) == 12
    row = corpus.samples[4].row
    assert (row.id, row.origin) == ("0004", "s-001.tar:0004")
    example = maker(base).make(row)
    assert np.array_equal(example.audios[0].samples, load(tmp_path / "s-001.wav").samples)
    assert corpus.samples[4].size.num_audio_tokens == 10


def test_shards_may_number_their_records_anew_but_ids_do_not_repeat(tmp_path, base):
    for number in range(2):
        write_shard(tmp_path / f"s-{number}.tar", 3)
    corpus = corpus_of(str(tmp_path / "s-{0..1}.tar"), base)
    assert [sample.row.id for sample in corpus.samples] == ["0000", "0001", "0002"] + [
        f"s-1.tar:{key}" for key in ("0000", "0001", "0002")
    ]
    row = {"id": "same", "conversations": turns("Who?", "Nobody.")}
    write_shard(tmp_path / "s-1.tar", 0, more=[(f"{k}.json", json.dumps(row).encode()) for k in "ab"])
    with pytest.raises(TrainingDataError, match=r"s-1.tar:b: its id was used before"):
        corpus_of(str(tmp_path / "s-{0..1}.tar"), base)


def test_answers_alone_get_one_question_and_several_sounds_are_one_row(tmp_path, base):
    wav = write_wav(tmp_path / "a.wav", 0.4).read_bytes()
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        add(archive, "d/one.0.wav", wav)
        add(archive, "d/one.1.wav", write_wav(tmp_path / "b.wav", 0.8).read_bytes())
        add(archive, "d/one.txt", b"Two noises.")
        add(archive, "two.json", json.dumps({"id": 9, "q": "Who?", "a": "Nobody."}).encode())
    (tmp_path / "sets.json").write_text(
        json.dumps({"T": {"shards": "t.tar", "ask": "What?"}, "Q": {"shards": "q.tar", "question": "q", "answer": "a"}})
    )
    write_shard(tmp_path / "q.tar", 0, more=[("k.json", b'{"q": "Who?", "a": "Nobody."}')])
    with pytest.raises(TrainingDataError, match=r"1 of 2 rows.*no column that looks like an answer.*has: a, id, q"):
        corpus_of("T", base, read_registry(tmp_path / "sets.json"))
    corpus = corpus_of("Q", base, read_registry(tmp_path / "sets.json"))
    assert corpus.samples[0].row.turns == (("user", "Who?"), ("assistant", "Nobody."))
    rows, bad = parse_mixture("T", read_registry(tmp_path / "sets.json"))[0].path.read(None)
    assert [sound.name for sound in rows[0].sounds] == ["d/one.0.wav", "d/one.1.wav"]
    assert rows[0].turns == (("user", "What?"), ("assistant", "Two noises."))
    assert [row.id for row in bad] == ["two"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.json", b"{", "not valid JSON"),
        ("bad.json", b"[]", "expected an object"),
        ("bad.txt", b"\xff\xfe", "not UTF-8"),
        ("bad.txt", b" \n", "turn 2 is empty"),
        ("bad.json", b'{"conversations": 3}', "conversations are 3"),
        ("bad.json", b'{"text": "x' + b" " * (1 << 20) + b'"}', "as text"),
    ],
)
def test_bad_records_of_shards_are_listed_and_do_not_take_the_others_with_them(tmp_path, base, name, content, reason):
    write_shard(tmp_path / "s.tar", 150, more=[(name, content)])
    corpus = load_corpus(parse_mixture(str(tmp_path / "s.tar")), maker(base), tmp_path / "bad.jsonl")
    assert (len(corpus.samples), corpus.num_rows) == (150, 151)
    listed = json.loads((tmp_path / "bad.jsonl").read_text())
    assert listed["origin"] == "s.tar:bad"
    assert reason in listed["reason"]


def test_links_and_paths_that_lead_out_are_never_followed(tmp_path, base):
    secret = write_wav(tmp_path / "secret.wav", 0.4)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"a{kind.decode()}.wav")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
            add(archive, f"a{kind.decode()}.txt", b"A secret.")
        add(archive, "../../out.wav", secret.read_bytes())
        add(archive, "../../out.txt", b"Noise.")
    rows, bad = parse_mixture(str(tmp_path / "x.tar"))[0].path.read(None)
    assert [row.id for row in rows] == ["../../out"]
    assert len(bad) == 3
    assert all("not a file" in row.reason for row in bad)
    assert maker(base).make(rows[0]).audios[0].samples.shape == (6_400,)
    assert {path.name for path in tmp_path.iterdir()} == {"secret.wav", "x.tar"}


def test_shards_that_are_not_there_are_named(tmp_path):
    write_shard(tmp_path / "s-0.tar")
    with pytest.raises(TrainingDataError, match=r"s-1.tar does not exist \(2 of 3"):
        parse_mixture(str(tmp_path / "s-{0..2}.tar"))
    with pytest.raises(TrainingDataError, match="allowed: 1 to 100,000"):
        shards_of("s-{5..4}.tar")
    with pytest.raises(TrainingDataError, match="allowed: 1 to 100,000"):
        shards_of("s-{0..999999999}.tar")


def test_a_shard_that_changes_under_the_run_is_a_bad_row(tmp_path, base):
    corpus = corpus_of(str(write_shard(tmp_path / "s.tar")), base)
    content = (tmp_path / "s.tar").read_bytes()
    (tmp_path / "s.tar").write_bytes(content[: corpus.samples[2].row.sounds[0].offset + 100])
    assert maker(base).make(corpus.samples[0].row)
    with pytest.raises(FlamingoError, match=r"0002.wav is cut off"):
        maker(base).make(corpus.samples[2].row)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A data set as the package `datasets` itself saves it."""
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub")
    paths = [str(write_wav(folder / f"{i}.wav", 0.3 + 0.1 * (i % 3), seed=i)) for i in range(6)]
    columns = {
        "audio": [{"bytes": Path(path).read_bytes(), "path": path} for path in paths],
        "file": paths,
        "text": [f"words {i}" for i in range(6)],
        "q": [f"Question {i}?" for i in range(6)],
        "a": [f"Answer {i}." for i in range(6)],
    }
    table = datasets.Dataset.from_dict(columns).cast_column("audio", datasets.Audio(16_000))
    table.save_to_disk(folder / "one")
    datasets.DatasetDict({"train": table, "test": table.select(range(2))}).save_to_disk(folder / "two")
    talks = [turns("<sound>What?", f"Talk {i}.") for i in range(3)]
    datasets.Dataset.from_dict({"sound": paths[:3], "id": ["x", "y", "z"], "conversations": talks}).save_to_disk(
        folder / "talks"
    )
    return folder


def test_data_sets_that_the_package_saved_are_rows(saved, base):
    corpus = corpus_of(f"hf:{saved / 'one'}", base)
    assert corpus.num_rows == 6
    row = corpus.samples[1].row
    assert row.turns == (("user", "Transcribe the input speech."), ("assistant", "words 1"))
    example = maker(base).make(row)
    assert np.array_equal(example.audios[0].samples, load(saved / "1.wav").samples)
    assert corpus_of(f"hf:{saved / 'two'}@test*3", base).num_rows == 2
    with pytest.raises(TrainingDataError, match="no split 'dev'; it has: train, test"):
        corpus_of(f"hf:{saved / 'two'}@dev", base)


def test_columns_are_named_in_the_registry(saved, base, tmp_path):
    described = {"datasets": str(saved / "one"), "sound": "file", "question": "q", "answer": "a"}
    (tmp_path / "sets.json").write_text(json.dumps({"A": described, "B": {**described, "answer": "b"}}))
    registry = read_registry(tmp_path / "sets.json")
    corpus = corpus_of("A#50", base, registry)
    assert len(corpus.samples) == 3
    assert corpus.samples[2].row.turns == (("user", "Question 2?"), ("assistant", "Answer 2."))
    assert np.array_equal(maker(base).make(corpus.samples[2].row).audios[0].samples, load(saved / "2.wav").samples)
    with pytest.raises(TrainingDataError, match="no column 'b'; it has: a, audio, file, q, text"):
        corpus_of("B", base, registry)


def test_whole_conversations_come_back_from_tables(saved, base):
    corpus = corpus_of(f"hf:{saved / 'talks'}", base)
    assert [sample.row.id for sample in corpus.samples] == ["x", "y", "z"]
    assert corpus.samples[2].row.turns == (("user", "<sound>What?"), ("assistant", "Talk 2."))


def test_a_broken_cell_is_a_bad_row(saved, base, tmp_path):
    datasets = pytest.importorskip("datasets")
    cells = [{"bytes": b"RIFF", "path": None}, {"bytes": None, "path": None}, {"bytes": b"", "path": None}]
    table = datasets.Dataset.from_dict({"audio": cells, "text": ["a", "b", None]})
    table.save_to_disk(tmp_path / "bad")
    with pytest.raises(TrainingDataError, match=r"3 of 3 rows.*bad\[2\].*turn 2 is"):
        corpus_of(f"hf:{tmp_path / 'bad'}", base)
    with pytest.raises(TrainingDataError, match="cannot be read"):
        corpus_of(f"hf:{tmp_path / 'nothing'}", base)


@pytest.mark.parametrize(
    "entry",
    [
        {"datasets": "a", "shards": "b"},
        {"split": "x"},
        {"datasets": 3},
        {"datasets": "a", "colour": "b"},
        {"datasets": "a", "answer": 3},
    ],
)
def test_wrong_descriptions_are_refused(entry):
    with pytest.raises(TrainingDataError, match="registry"):
        parse_mixture("X", {"X": entry})
