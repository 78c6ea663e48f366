"""Export: NVIDIA's rows, the same bytes whatever the number of processes, going on after a cut, clear refusals."""

import errno
import json
import shutil
from hashlib import sha256
from itertools import islice

import numpy as np
import pytest
import soundfile

from audioflamingo.cli.main import main
from audioflamingo.errors import OptionError
from audioflamingo.world.check_files import check_export
from audioflamingo.world.export import SCENES_PER_SHARD, ExportError, Order, export, pcm16, stream, written
from audioflamingo.world.timeline import World

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no speech engines")
ORDER = Order(("information_extraction", "counting", "chat", "several_clips", "by_example", "music_knowledge"), 0.05, 5)


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "first"
    return folder, export(ORDER, folder)


def test_two_processes_write_what_one_writes(exported, tmp_path):
    folder, done = exported
    again = export(ORDER, tmp_path / "again", num_workers=2)
    assert again == done
    assert hashes(tmp_path / "again") == hashes(folder)


def test_a_run_that_was_cut_off_goes_on(exported, tmp_path):
    folder, done = exported
    cut = tmp_path / "cut"
    shutil.copytree(folder, cut)
    (cut / "rows.json").unlink()
    parts = sorted((cut / "parts").iterdir())
    parts[-1].unlink()
    broken = next((cut / "audio" / parts[-1].stem).iterdir())
    broken.write_bytes(b"half a file")
    again = export(ORDER, cut)
    assert again.num_shards_made == 1
    assert again.num_rows == done.num_rows
    assert hashes(cut) == hashes(folder)


def test_rows_are_nvidias_and_the_trainer_reads_them(exported):
    from audioflamingo.train.data.nvidia_json import read_rows

    folder, done = exported
    rows = json.loads((folder / "rows.json").read_text())
    assert len(rows) == done.num_rows
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert list(row) == ["id", "sound", "duration", "conversations"]
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (len(row["conversations"]) // 2)
        sounds = row["sound"] if isinstance(row["sound"], list) else [row["sound"]]
        info = [soundfile.info(folder / sound) for sound in sounds]
        assert all((one.samplerate, one.channels) == (16_000, 1) for one in info)
        assert sum(one.duration for one in info) == pytest.approx(row["duration"], abs=0.01)
        text = "".join(turn["value"] for turn in row["conversations"])
        wanted = ["<sound>"] if len(sounds) == 1 else [f"<sound-{k + 1}>" for k in range(len(sounds))]
        assert all(text.count(tag) == 1 for tag in wanted)
    read, bad = read_rows(folder / "rows.json")
    assert (len(read), bad) == (len(rows), [])


def test_answers_of_the_export_are_checked(exported, capsys):
    folder, done = exported
    num_turns, problems = check_export(folder)
    assert problems == []
    assert num_turns >= done.num_rows
    assert main(["world", "--check", str(folder)]) == 0
    assert f"{num_turns} answers checked, 0 wrong" in capsys.readouterr().out


def test_streamed_scenes_are_those_of_the_export(exported):
    folder, _ = exported
    lines = [json.loads(line) for line in (folder / "truth.jsonl").open()]
    for line, made in islice(zip(lines, stream(ORDER), strict=False), SCENES_PER_SHARD // 2):
        for clip, truth in zip(made.clips, line["clips"], strict=True):
            samples, _ = soundfile.read(folder / truth["sound"], dtype="int16")
            assert np.array_equal(samples, pcm16(clip))


def test_other_orders_and_other_folders_are_refused(exported, tmp_path):
    folder, _ = exported
    with pytest.raises(OptionError, match="other seed"):
        export(Order(ORDER.tasks, 0.05, 6), folder)
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(OptionError, match="not empty"):
        export(ORDER, tmp_path)
    with pytest.raises(OptionError, match="hours"):
        Order(ORDER.tasks, 0.0)
    with pytest.raises(OptionError, match="GB free"):
        export(Order(("counting",), 1e5), tmp_path / "large")
    with pytest.raises(OptionError, match="finished export"):
        check_export(tmp_path)


def test_the_page(tmp_path):
    pytest.importorskip("matplotlib")
    from audioflamingo.world.listen import write_page

    order = Order(("counting", "music_knowledge"), 0.1, 1, World(strength=0.2))
    (tmp_path / "page" / "clips").mkdir(parents=True)  # of a page that was begun and not finished
    told = []
    page = write_page(order, tmp_path / "page", told.append)
    assert told == ["counting", "music_knowledge"]
    with pytest.raises(OptionError, match="not empty"):
        write_page(order, tmp_path / "page")
    text = page.read_text()
    assert all(f'<a href="#{task}">' in text and f'<h2 id="{task}">' in text for task in order.tasks)
    assert text.count("<img") == text.count("<audio") == 4
    assert all((page.parent / f"clips/counting-{i}-0.png").stat().st_size > 5_000 for i in range(2))


def test_events_that_sound_together_lie_in_different_lanes():
    from audioflamingo.world.listen import lanes
    from audioflamingo.world.timeline import Heard

    spans = [(0.0, 9.0), (1.0, 2.0), (1.5, 3.0), (2.5, 4.0), (5.0, 6.0), (5.5, 7.0)]
    chosen = lanes([Heard("bell", start, end) for start, end in spans])
    assert len(set(chosen[:4])) == 4
    assert 0 not in chosen[1:]
    assert len(lanes([Heard("bell", 0.0, 1.0)] * 7)) == 7  # more than there are


def test_what_cannot_be_written_or_read_is_told(exported, tmp_path, capsys):
    folder, _ = exported
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match=r"cannot be written \(Not a directory\); choose another --out"):
        export(ORDER, tmp_path / "file" / "x")
    with pytest.raises(ExportError, match="free some space"), written(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "x.flac")
    with pytest.raises(ExportError, match="raise the limit on the size of files"), written(tmp_path):
        raise OSError(errno.EFBIG, "File too large", "x.flac")
    with pytest.raises(OptionError, match="no soundfont"):
        export(Order(ORDER.tasks, 0.01, 5, World(soundfonts=(tmp_path / "file",))), tmp_path / "font")
    assert main(["world", "--listen", "--hours", "2", "--out", str(tmp_path / "page")]) == 2
    assert "--hours has no part in --listen" in capsys.readouterr().err
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "world.json").write_text("{")
    with pytest.raises(OptionError, match=r"world\.json is damaged"):
        export(ORDER, broken)


def test_a_broken_export_is_found(exported, tmp_path):
    folder, _ = exported
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    lost, cut = sorted(broken.glob("audio/*/*"))[:2]
    lost.unlink()
    samples, rate_hz = soundfile.read(cut)
    soundfile.write(cut, samples[:-800], rate_hz)
    rows = json.loads((broken / "rows.json").read_text())
    rows[0]["conversations"][1]["value"] = "Something else."
    (broken / "rows.json").write_text(json.dumps(rows[:-1]))
    _, problems = check_export(broken)
    assert len(problems) == 4
    for part in (f"{lost} is missing", f"{cut} is ", f"{rows[0]['id']} are not", f"no row {rows[-1]['id']}"):
        assert any(part in problem for problem in problems), (part, problems)
    for damage in (b"\xff\n", b"[1]\n", b'{"id": "x"\n'):
        (broken / "truth.jsonl").write_bytes(damage)
        with pytest.raises(OptionError, match=r"truth.jsonl is damaged.*export it again"):
            check_export(broken)


def test_the_command(tmp_path, capsys):
    out = tmp_path / "data"
    words = ["world", "--tasks", "nothing_there", "--hours", "0.001", "--out", str(out), "--workers", "1", "--wav"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["scenes"] == SCENES_PER_SHARD
    assert next(out.rglob("*.wav"))
    assert main(["world", "--list"]) == 0
    assert "counting" in capsys.readouterr().out
    assert main(["world", "--tasks", "sarcasm", "--out", str(out)]) == 2
    assert main(["world"]) == 2
