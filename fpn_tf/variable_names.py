"""Names of an optimizer's variables that are the same in every process and for every model made alike.

Keras' own names count what the process made before (`faster_rcnn_1`, `group_normalization_12`), and its
checkpoints of optimizers know an order alone.
"""

import re


def optimizer_names(optimizer):
    """A name for each of an optimizer's variables.

    Args:
        optimizer: Keras optimizer, built.

    Returns:
        A list of texts, none twice, in the order of `optimizer.variables`: "iteration" and the like, and
        "backbone/stem/kernel/velocity" for what it keeps of a weight (see `stable_paths`). Those that a
        LossScaleOptimizer has besides its inner optimizer's begin with "loss_scale/".

    Raises:
        ValueError: the optimizer keeps two variables of one name for the same weight.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        outer = optimizer.variables[: len(optimizer.variables) - len(inner.variables)]
        return [f"loss_scale/{variable.name}" for variable in outer] + optimizer_names(inner)
    weight_paths = [weight.path for weight in optimizer._trainable_variables]
    weights = {}  # as Keras writes a weight into the names of what is kept of it: stable paths, in order
    for path, stable_path in zip(weight_paths, stable_paths(weight_paths)):
        weights.setdefault(path.replace("/", "_"), []).append(stable_path)
    occurrences, names = {}, []
    for variable in optimizer.variables:
        prefixes = [prefix for prefix in weights if variable.name.startswith(f"{prefix}_")]
        if not prefixes:
            names.append(variable.name)
            continue
        prefix = max(prefixes, key=len)
        slot = variable.name.removeprefix(f"{prefix}_")
        occurrence = occurrences[variable.name] = occurrences.get(variable.name, -1) + 1
        names.append(f"{weights[prefix][occurrence % len(weights[prefix])]}/{slot}")
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{type(optimizer).__name__}: has several variables {repeated}")
    return names


def stable_paths(paths):
    """Keras' paths of a model's weights without what depends on the process's history.

    The model's own name goes, if all paths begin with it. The number at the end of a part, by which
    Keras may have counted, gives way to the part's place among those beside it that differ by that
    number alone: `conv2d_17` and `conv2d_18` become `conv2d` and `conv2d#2`, in the order in which they
    were made.

    Args:
        paths: a list of texts.

    Returns:
        A list of as many texts, none twice: where a path comes again, `@2` and so on tell them apart.
    """
    split_paths = [path.split("/") for path in paths]
    if len({parts[0] for parts in split_paths}) == 1 and all(len(parts) > 1 for parts in split_paths):
        split_paths = [parts[1:] for parts in split_paths]
    numbers = {}  # of the parts of one parent and one name
    for parts in split_paths:
        for depth, part in enumerate(parts):
            name, number = _without_number(part)
            numbers.setdefault((*parts[:depth], name), set()).add(number)

    def stable(parts, depth):
        name, number = _without_number(parts[depth])
        place = sorted(numbers[(*parts[:depth], name)]).index(number) + 1
        return name if place == 1 else f"{name}#{place}"

    names = ["/".join(stable(parts, depth) for depth in range(len(parts))) for parts in split_paths]
    occurrences = [names[:i].count(name) + 1 for i, name in enumerate(names)]
    return [name if count == 1 else f"{name}@{count}" for name, count in zip(names, occurrences)]


def _without_number(part):
    """(name, number) of a path's part such as `conv2d_17`; the number is -1 where there is none."""
    match = re.fullmatch(r"(.+)_(0|[1-9]\d*)", part)
    return (match[1], int(match[2])) if match else (part, -1)


def renamed(name, new_prefixes):
    """A name with its beginning replaced.

    Args:
        name: as `optimizer_names` gives it.
        new_prefixes: {old beginning: new one}, of whole parts: {"fpn": "neck"} makes
            "neck/lateral2/kernel/velocity" of "fpn/lateral2/kernel/velocity". The longest one counts.
    """
    for old in sorted(new_prefixes, key=len, reverse=True):
        if name.startswith(f"{old}/"):
            return new_prefixes[old] + name.removeprefix(old)
    return name
