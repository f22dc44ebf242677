"""Which elements others need, by the elements of the image that is being built, which are all in ELEMENTS_PATH."""

import os
import sys


class MissingElementException(Exception):
    """An element is in no directory of the path."""


def get_elements(elements, paths=None):
    """Returns these elements and all they need, as pairs of name and directory, sorted."""
    known = _directories(paths or os.environ["ELEMENTS_PATH"])
    found, left, provided = {}, list(elements), set()
    while left:
        name = left.pop(0)
        if name in found or name in provided:
            continue
        if name not in known:
            raise MissingElementException(f"Element '{name}' not found")
        found[name] = known[name]
        provided |= _names(known[name], "element-provides")
        left += sorted(_names(known[name], "element-deps"))
    return sorted((name, path) for name, path in found.items() if name not in provided)


def expand_dependencies(user_elements, element_dirs):
    """Returns the names of these elements and of all they need."""
    return {name for name, _ in get_elements(user_elements, element_dirs)}


def main():
    """Prints the names of the elements that those on the command line come to; with --env, bash that defines the variables."""
    elements = get_elements([word for word in sys.argv[1:] if word not in ("--env", "-e")])
    names = " ".join(name for name, _ in elements)
    if not {"--env", "-e"} & set(sys.argv[1:]):
        print(names)
        return 0
    lines = "\n".join(f"{name}: {path}" for name, path in elements)
    pairs = "".join(f"[{name}]={path} " for name, path in elements)
    print(f"export IMAGE_ELEMENT='{names}'")
    print(f"export IMAGE_ELEMENT_YAML='{lines}\n'")
    print(f'function get_image_element_array {{\n  echo "{pairs}"\n}};\nexport -f get_image_element_array;')
    return 0


def _directories(paths):
    """Returns every element's directory; the first path that has one wins."""
    directories = {}
    for path in filter(os.path.isdir, paths.split(":")):
        for entry in sorted(os.listdir(path)):
            element = os.path.realpath(os.path.join(path, entry))
            if os.path.isdir(element):
                directories.setdefault(os.path.basename(element), element)
    return directories


def _names(directory, file):
    path = os.path.join(directory, file)
    if not os.path.exists(path):
        return set()
    with open(path, encoding="utf-8") as lines:
        return {line.strip() for line in lines if line.strip()}
