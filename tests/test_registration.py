"""`import fpn_tf` has Keras know its classes, whichever of its modules, or Keras, is imported first."""

import subprocess
import sys

import pytest

CLASSES = ("FasterRCNN", "FastRCNN", "RPN", "SegmentProposals", "MaskProposals", "FeaturePyramid", "Head")
FIRST = {
    "keras after": "import fpn_tf, keras",
    "keras before": "import keras, fpn_tf",
    "a name": "import fpn_tf; fpn_tf.ROIAlign; import keras",
    **{
        module: f"import fpn_tf.{module}, keras"
        for module in ("preprocessing", "kernels", "geometry.selection", "targets.box_targets", "losses")
    },
    **{
        module: f"import fpn_tf.{module}, keras"
        for module in ("models.detector", "models.heads.box", "training.optimizer", "assemble", "checkpoint")
    },
}


@pytest.mark.parametrize(
    "imports",
    [
        pytest.param(text, id=name, marks=() if name == "preprocessing" else pytest.mark.slow)
        for name, text in FIRST.items()
    ],
)
def test_every_class_is_known_to_keras(imports):
    check = "; ".join(f"assert keras.saving.get_registered_object('fpn_tf>{name}')" for name in CLASSES)
    subprocess.run([sys.executable, "-c", f"{imports}; {check}"], check=True, capture_output=True)


def test_a_config_needs_no_keras():
    script = "import sys, fpn_tf; fpn_tf.Config(); assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
