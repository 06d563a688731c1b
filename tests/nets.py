"""Small nets of Keras layers, in place of the classifiers of other libraries."""

import keras
from keras import layers


def net(dropout=0.0):
    """A functional net of known layers, one stage a stride, each of a padding, a convolution, a norm.

    Its fifth stage ends with channels that are weighted by a vector of more numbers than c2 has rows.
    """
    x = image = keras.Input((None, None, 3))
    for stage, channels in enumerate((4, 4, 6, 6, 100), start=1):
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"pad{stage}")(x)
        x = layers.Conv2D(channels, 3, 2, "valid", use_bias=False, name=f"conv{stage}")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"norm{stage}")(x)
        x = layers.ReLU(name=f"relu{stage}")(x)
    weight = layers.Dense(channels, name="dense")(layers.GlobalAveragePooling2D(name="mean")(x))
    x = layers.Multiply(name="product")([x, layers.Reshape((1, 1, channels))(weight)])
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, x, name="net")
