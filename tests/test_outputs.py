"""What modes write: asked before the work, printed before it is written, exported once."""

import errno
import os
import types

import pytest
from conftest import make_quick_config, run_main

from fpn_tf import build, files
from fpn_tf import config as config_lib
from fpn_tf.errors import CheckpointError, DataError
from fpn_tf.exporting import saved_model
from fpn_tf.modes import evaluating, export_record, exporting, proposing, scoring
from fpn_tf.modes.export_record import export_once, fingerprint_of
from fpn_tf.predict import outputs_for


def failing(number):
    def call(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture(params=[errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT])
def full_disk(request, monkeypatch):
    """No file can be written; yields the reason."""
    monkeypatch.setattr(files.tempfile, "TemporaryFile", failing(request.param))
    return os.strerror(request.param)


# Asked first --------------------------------------------------------------------------------------


def reached(*arguments, **keywords):
    pytest.fail("it began to work")


def test_evaluation_asks_first_whether_it_can_write(full_disk, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(evaluating, "load_model_dir", reached)
    assert run_main("--mode=eval", f"--model_dir={tmp_path}") == 1
    assert capfd.readouterr().err == f"error: {tmp_path}: {full_disk}; what was saved before is whole\n"


def test_scoring_files_asks_first(full_disk, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(evaluating.result_file, "score_files", reached)
    assert run_main("--mode=eval", "--detections=a", "--annotations=b", f"--model_dir={tmp_path}") == 1
    assert capfd.readouterr().err == f"error: --model_dir={tmp_path}: cannot be written to ({full_disk})\n"


def test_proposing_asks_first(full_disk, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(proposing, "load_model_dir", reached)
    output = tmp_path / "new" / "a.npz"
    assert run_main("--mode=propose", f"--model_dir={tmp_path}", f"--output={output}") == 1
    assert capfd.readouterr().err == f"error: {tmp_path}: {full_disk}; what was saved before is whole\n"


def test_predicting_asks_first(full_disk, tmp_path):
    with pytest.raises(DataError) as caught:
        outputs_for([tmp_path / "a.png"], tmp_path / "out")
    message = f"--output={tmp_path}/out: cannot be written to ({full_disk}); expected another folder"
    assert str(caught.value) == message


def test_asking_leaves_nothing(tmp_path):
    files.check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError):
            files.check_writable(path)


# Printed first ------------------------------------------------------------------------------------


@pytest.fixture
def scored(monkeypatch):
    """Evaluations whose AP is 0.25."""
    monkeypatch.setattr(scoring.evaluator, "score", lambda *arguments: ({"AP": 0.25}, []))
    monkeypatch.setattr(scoring, "write_run_report", lambda *arguments: None)
    record = types.SimpleNamespace(image_id=3)
    return config_lib.Config(), types.SimpleNamespace(records=[record]), {0: None}, 0.1


def test_metrics_are_printed_before_they_are_written(scored, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.json").touch()
    monkeypatch.setattr(scoring.evaluator, "write", failing(errno.ENOSPC))
    shown = []
    with pytest.raises(OSError, match="No space left"):
        scoring.score_and_write(*scored, tmp_path, 4, {}, show=shown.append)
    assert capsys.readouterr().out == "step 4: AP 0.250 on 1 photos\n"
    assert shown == [{"AP": 0.25}]


def test_a_folder_that_has_gone_is_not_made_again(scored, tmp_path):
    with pytest.raises(CheckpointError, match="run: has gone while the run used it"):
        scoring.score_and_write(*scored, tmp_path / "run", 4, {})
    assert not list(tmp_path.iterdir())


# Exported once ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return build(make_quick_config())


@pytest.fixture
def exports(tmp_path, monkeypatch):
    """The folder of exports, each of which is an empty file here."""

    def export(model, folder, **settings):
        path = folder / str(len(list(folder.iterdir())) + 1 if folder.exists() else 1)
        path.mkdir(parents=True)
        (path / "saved_model.pb").touch()
        return path

    monkeypatch.setattr(saved_model, "export", export)
    return tmp_path / "export"


def test_one_export_for_one_model(model, exports):
    assert [export_once(model, exports).name for _ in range(3)] == ["1", "1", "1"]
    (exports / "1" / "saved_model.pb").unlink()
    assert export_once(model, exports).name == "2"
    (exports / "2" / export_record.RECORD).write_bytes(b"\xff")
    assert export_once(model, exports).name == "3"
    (exports / "3" / export_record.RECORD).unlink()  # as the version before wrote it
    assert export_once(model, exports).name == "4"


def test_other_weights_are_another_model(model, exports):
    first = export_once(model, exports)
    weight = model.weights[0]
    before = weight.numpy()
    weight.assign(before + 1)
    try:
        assert export_once(model, exports) != first
    finally:
        weight.assign(before)
    assert export_once(model, exports) == first


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ("eval.score_threshold=0.3", True),
        ("eval.max_detections=7", True),
        ("data.short_side=96", True),
        ("data.class_names=x,y,z", True),
        ("data.category_ids=5,6,7", True),
        ("eval.pictures=3", False),
        ("data.root=/elsewhere", False),
        ("train.steps=9", False),
    ],
)
def test_what_a_model_gives_is_in_its_fingerprint(change, is_another, model):
    other = build(config_lib.override(make_quick_config(), [change]))
    other.set_weights(model.get_weights())
    assert (fingerprint_of(other) != fingerprint_of(model)) == is_another


def test_the_mode_writes_one(model, exports, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(exporting, "load_model_dir", lambda *arguments: (model.config, model, 4))
    for _ in range(2):
        exporting.export(tmp_path, [], "newest", "savedmodel")
    assert capsys.readouterr().out == f"exported step 4: {exports}/1\n" * 2


class Archive:
    """Keras' ExportArchive on a disk that fails."""

    message = ""

    def track(self, weights):
        pass

    add_endpoint = track

    def write_out(self, path, verbose):
        os.makedirs(path)
        raise saved_model.tf.errors.ResourceExhaustedError(None, None, self.message.replace("{path}", path))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{{node SaveV2}} {path}/v.tempstate1; No space left on device [Op:SaveV2]", "No space left on dev"),
        ("{path}; Read-only file system", "Read-only file system"),
        ("{path}/variables; Disk quota exceeded", "Disk quota exceeded"),
        ("{path}; Input/output error", "Input/output error"),
    ],
)
def test_an_export_on_a_disk_that_fails_is_one_line_and_leaves_nothing(
    message, reason, tmp_path, monkeypatch
):
    monkeypatch.setattr(saved_model.keras.export, "ExportArchive", Archive)
    monkeypatch.setattr(Archive, "message", message)
    monkeypatch.setattr(Archive, "add_endpoint", lambda *arguments: None)
    monkeypatch.setattr(saved_model, "_net_for", lambda model, platform: None)
    model = types.SimpleNamespace(preprocessor=types.SimpleNamespace(category_ids=(1,)), variables=[])
    with pytest.raises(OSError, match=f"{reason}.*: '{tmp_path}/export'"):
        saved_model.export(model, tmp_path / "export")
    assert not list((tmp_path / "export").iterdir())
