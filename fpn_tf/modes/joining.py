"""`--mode=join`: one Faster R-CNN of two runs."""

from fpn_tf.pretrained.model_dir import check_new, write_model_dir
from fpn_tf.pretrained.parts import joined
from fpn_tf.training.preparation import check_writable
from fpn_tf.training.progress import console


def join(rpn_dir, fast_rcnn_dir, model_dir):
    """Makes one Faster R-CNN of an RPN and a Fast R-CNN that share their trunk (FPN paper, Table 5).

    Args:
        rpn_dir: the folder of the RPN's run.
        fast_rcnn_dir: the folder of the Fast R-CNN's run.
        model_dir: the folder to make; it holds no run yet.
    """
    check_writable(model_dir)
    check_new(model_dir)
    write_model_dir(joined(rpn_dir, fast_rcnn_dir), model_dir)
    console.print(f"joined {rpn_dir} and {fast_rcnn_dir} -> {model_dir}")
