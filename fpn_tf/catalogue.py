"""Names that a config may use for parts, and what they stand for; nothing is imported here."""

BACKBONES = {  # name -> arguments of fpn_tf.ResNet
    "resnet_tiny": {"depth": "tiny"},
    **{f"resnet{depth}": {"depth": depth} for depth in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": {"depth": 50, "groups": 32, "width_per_group": 4},
    "resnext101_32x8d": {"depth": 101, "groups": 32, "width_per_group": 8},
}
APPLICATIONS = "keras_applications/"  # before the name of any model in keras.applications
NECKS = {  # name, see fpn_tf.models.necks -> levels of its maps, each with its anchors
    "fpn": (2, 3, 4, 5, 6),
    "bottom_up": (2, 3, 4, 5, 6),
    "top_down": (2, 3, 4, 5, 6),
    "finest": (2,),
    "c4": (4,),
    "c5": (5,),
}
