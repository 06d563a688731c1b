"""What the README promises in code."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_stand_first_and_alone():
    assert blocks("sh")[:2] == [
        "pip install -e . && python main.py\n",
        "pip install -e '.[test]' && pytest\n",
    ]


def test_ci_runs_the_readmes_test_command():
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_functional_script_runs_and_is_short():
    [script] = [block for block in blocks("python") if "FeaturePyramid" in block]
    assert len([line for line in script.splitlines() if line.strip()]) < 15
    scope = {}
    exec(script, scope)
    assert scope["model"].history.epoch == [0]
    assert {f"p{k}" for k in range(2, 7)} == set(scope["pyramid"])


def test_every_file_that_the_map_names_exists():
    named = re.findall(r"`((?:fpn_tf|experiments|tests|main)[\w/.]*)`", README)
    assert len(named) > 10
    for name in named:
        if "." in name.removeprefix("fpn_tf.") or name.endswith("/"):
            path = ROOT / name
            assert path.exists() or name.startswith("fpn_tf."), name
