"""What is here for speed or memory alone: fast forms of functions that stand plainly elsewhere.

`with fpn_tf.kernels.plain():` turns all of them off, see `fpn_tf.kernels.choice`.
"""

from fpn_tf.kernels.choice import convolving_for, plain, plain_is_asked_for

__all__ = ["convolving_for", "plain", "plain_is_asked_for"]
