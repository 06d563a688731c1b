"""Maps by name: which levels they are of, and what is wrong with them if they are not what a layer takes.

A name is a letter and a level, c2..c5 of a backbone and p2..p6 of a pyramid; level l has stride 2^l.
"""

import re


def levels_of(maps, letter, layer):
    """The levels of maps by name, in rising order.

    Args:
        maps: {"c2": anything, ...}.
        letter: "c" or "p".
        layer: name of the layer that takes them, for the message.

    Raises:
        TypeError: no mapping.
        ValueError: no maps, or a name that is not the letter and a number.
    """
    example = f'{{"{letter}2": [B, H, W, C], "{letter}3": ...}}'
    if not hasattr(maps, "items"):
        raise TypeError(f"{layer}: got {_kind(maps)} instead of maps by name; call it with {example}")
    if not maps or not all(re.fullmatch(rf"{letter}\d+", str(name)) for name in maps):
        names = _listed(maps)
        raise ValueError(f"{layer}: got maps {names}; call it with {example}, level l of stride 2^l")
    return sorted(int(name[1:]) for name in maps)


def consecutive_levels_of(shapes, letter, layer):
    """`levels_of`, where each map has to be half as large as the one before, rounded up.

    Args:
        shapes: {"c2": (B, H, W, C), ...}, None for sizes that are not known.
        letter, layer: see `levels_of`.

    Raises:
        TypeError, ValueError: as `levels_of`; a level is missing, or a map is no [B, H, W, C] half as large.
    """
    levels = levels_of(shapes, letter, layer)
    if levels != list(range(levels[0], levels[-1] + 1)):
        names = _listed(shapes)
        raise ValueError(f"{layer}: got maps {names}; expected consecutive levels, as c2, c3, c4, c5")
    for k in levels:
        check_rank(shapes[f"{letter}{k}"], "[B, H, W, C]", f"{layer}: {letter}{k}")
    for k in levels[1:]:
        finer, size = (tuple(shapes[f"{letter}{level}"][1:3]) for level in (k - 1, k))
        half = tuple(None if side is None else -(-side // 2) for side in finer)
        if any(None not in pair and pair[0] != pair[1] for pair in zip(size, half)):
            raise ValueError(
                f"{layer}: got {letter}{k - 1} of size {finer} and {letter}{k} of size {size}; expected "
                f"{letter}{k} half as large, {half}: name each map by its stride, 2^level"
            )
    return levels


def check_rank(shape, axes, what):
    """Checks the number of axes, and the last one where it is given as a number.

    Args:
        shape: of what came.
        axes: what is expected, such as "[B, R, 4]".
        what: the name of the value, for the message.

    Raises:
        ValueError: it has others.
    """
    names = axes.strip("[]").split(", ")
    last = shape[-1] if len(shape) else None
    if len(shape) != len(names) or (names[-1].isdigit() and last not in (None, int(names[-1]))):
        hint = "; add the batch axis, x[None]" if len(shape) == len(names) - 1 else ""
        raise ValueError(f"{what} of shape {tuple(shape)}; expected {axes}{hint}")


def _kind(value):
    if isinstance(value, list | tuple) and value and all(isinstance(side, int | None) for side in value):
        return f"one map of shape {tuple(value)}"
    return f"a {type(value).__name__}"


def _listed(names):
    return ", ".join(sorted(map(str, names))) or "nothing"
