"""What is here for speed or memory alone: fast forms of functions that stand plainly elsewhere.

`with fpn_tf.kernels.plain():` turns all of them off, see `fpn_tf.kernels.choice`.
"""

from fpn_tf.kernels.choice import plain, plain_is_asked_for

__all__ = ["plain", "plain_is_asked_for"]
