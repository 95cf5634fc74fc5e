"""Finds plugins, isolates the broken ones, and freezes what they offer into a Catalog."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from softneuro_core import hookspecs, knobs
from softneuro_core.device import Device, Target
from softneuro_core.errors import PluginError, Unavailable
from softneuro_core.operators import Operator
from softneuro_core.passes import Pass
from softneuro_core.routine import Adapter, Call, Routine
from softneuro_core.versions import version_of

ENTRY_POINT_GROUP = "softneuro"
BUILTIN = "core"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What ``softneuro plugins`` shows. ``status`` is loaded, unavailable, failed, or disabled; ``reason`` says why."""

    name: str
    version: str = ""
    distribution: str = ""
    status: str = "loaded"
    reason: str = ""
    hooks: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    code_hash: str = ""
    """Hash of the module's installed files: part of every cost key, so an edited kernel is measured anew."""


@dataclass(frozen=True, slots=True)
class ModuleOrigin:
    """Where a module given to :func:`load_plugins` can be found again: its import name and file."""

    plugin: str
    module: str
    file: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a catalog was made, so that another process can make it again (see :func:`rebuild`).

    ``unreachable`` names the plugins no other process can import: objects, and modules of a running script.
    """

    only: tuple[str, ...] | None = None
    disable: tuple[str, ...] = ()
    modules: tuple[ModuleOrigin, ...] = ()
    unreachable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything the installed plugins offer, collected once; immutable, and no global."""

    plugins: tuple[PluginInfo, ...]
    devices: Mapping[str, Device]
    routines: Mapping[str, Routine]
    adapters: Mapping[str, Adapter]
    operators: Mapping[str, Operator] = field(default_factory=dict)
    passes: tuple[Pass, ...] = ()
    commands: tuple[Any, ...] = ()
    owners: Mapping[str, PluginInfo] = field(default_factory=dict)
    """The plugin each routine, adapter or operator name came from."""
    link: Callable[[Target, Sequence[Call]], Callable[[], None] | None] = lambda target, calls: None
    recipe: Recipe | None = None
    """How :func:`load_plugins` made it; None for a catalog put together by hand."""

    def target(self, device: str, threads: int) -> Target:
        """A Target for the device of this name; raises :class:`PluginError` if it is absent."""
        if device not in self.devices:
            raise PluginError(
                f"device {device!r} is not available", remedy="softneuro plugins shows devices and reasons"
            )
        found = self.devices[device]
        return Target(found, threads, found.isa)

    @property
    def homes(self) -> dict[str, str]:
        """In whose memory each device's tensors lie."""
        return {name: device.home for name, device in self.devices.items()}

    def without(self, routines: Iterable[str] = (), devices: Iterable[str] = ()) -> Catalog:
        """This catalog less some routines or whole devices (the host stays)."""
        gone, absent = set(routines), set(devices) - {"cpu"}
        return replace(
            self,
            routines={n: r for n, r in self.routines.items() if n not in gone and r.device not in absent},
            adapters={n: a for n, a in self.adapters.items() if n.partition("/")[0] not in absent},
            devices={n: d for n, d in self.devices.items() if n not in absent},
        )


def load_plugins(
    only: Iterable[str] | None = None,
    disable: Iterable[str] = (),
    modules: Mapping[str, Any] | Iterable[Any] = (),
) -> Catalog:
    """A catalog of the core's own plugin, the installed ones and ``modules``.

    ``only`` restricts the installed plugins by entry-point name (``()`` loads none), ``disable`` removes some;
    both default to the environment (``SOFTNEURO_PLUGINS``, ``SOFTNEURO_DISABLE_PLUGINS``). A plugin that fails to
    import, breaks a hook or lacks its hardware is listed with the reason and never fatal.
    """
    from softneuro_core import builtin

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    if knobs.TRACE.get() == "1":
        manager.trace.root.setwriter(lambda text: print(text, end="", file=sys.stderr))
        manager.enable_tracing()
    infos = {BUILTIN: _register(manager, PluginInfo(BUILTIN, version_of("softneuro-core"), "softneuro-core"), builtin)}
    chosen = knobs.PLUGINS.names() if only is None else frozenset(only)
    refused = frozenset(disable) | (knobs.DISABLE.names() or frozenset())
    for entry in _entry_points():
        infos[_unused(entry.name, infos)] = _load_entry(manager, entry, chosen, refused)
    given = modules if isinstance(modules, Mapping) else {_module_name(m): m for m in modules}
    for name, module in given.items():
        infos[_unused(name, infos)] = _register(manager, PluginInfo(name), module)
    return replace(_collect(manager, infos), recipe=_recipe(chosen, refused, given))


def _unused(name: str, taken: Collection[str]) -> str:
    """A key for a plugin whose name another one has: it is listed as failed beside it, not in its place."""
    while name in taken:
        name += "'"
    return name


def rebuild(recipe: Recipe) -> Catalog:
    """The catalog of a recipe in this process, less what is unreachable; modules are imported by name or from
    their files, and one that cannot be imported is left out like any broken plugin."""
    modules = {}
    for origin in recipe.modules:
        with contextlib.suppress(Exception):
            modules[origin.plugin] = _imported(origin)
    return load_plugins(recipe.only, recipe.disable, modules)


def _recipe(chosen: frozenset[str] | None, refused: frozenset[str], given: Mapping[str, Any]) -> Recipe:
    origins = {name: _origin(name, module) for name, module in given.items()}
    return Recipe(
        None if chosen is None else tuple(sorted(chosen)),
        tuple(sorted(refused)),
        tuple(origin for origin in origins.values() if origin is not None),
        tuple(name for name, origin in origins.items() if origin is None),
    )


def _origin(plugin: str, module: Any) -> ModuleOrigin | None:
    """None for anything but a module with a file that is not the running script (importing that would run it)."""
    file = getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or file is None or module.__name__ == "__main__":
        return None
    return ModuleOrigin(plugin, module.__name__, str(Path(file).absolute()))


def _imported(origin: ModuleOrigin) -> ModuleType:
    """The module by its name if that is the same file, else loaded from the file."""
    with contextlib.suppress(ImportError):
        module = importlib.import_module(origin.module)
        if Path(module.__file__ or "").absolute() == Path(origin.file):
            return module
    spec = importlib.util.spec_from_file_location(origin.module, origin.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{origin.file} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[origin.module] = module
    spec.loader.exec_module(module)
    return module


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    """Entry points of our group, each name once (an editable install may show twice), sorted."""
    found = {e.name: e for e in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    return [found[name] for name in sorted(found)]


def _module_name(module: Any) -> str:
    return getattr(module, "__name__", type(module).__name__)


def _load_entry(
    manager: pluggy.PluginManager,
    entry: importlib.metadata.EntryPoint,
    chosen: frozenset[str] | None,
    refused: frozenset[str],
) -> PluginInfo:
    info = PluginInfo(
        entry.name,
        entry.dist.version if entry.dist else "",
        entry.dist.name if entry.dist else "",
    )
    if entry.name in refused or (chosen is not None and entry.name not in chosen):
        return replace(info, status="disabled", reason="not selected")
    try:
        module = entry.load()
    except BaseException as error:  # whatever a stranger's module does on import, the host lives on
        if isinstance(error, KeyboardInterrupt):
            raise
        return replace(info, status="failed", reason=f"import: {type(error).__name__}: {error}")
    return _register(manager, info, module)


def _register(manager: pluggy.PluginManager, info: PluginInfo, module: Any) -> PluginInfo:
    wanted = getattr(module, "SOFTNEURO_API", hookspecs.API_VERSION)
    if wanted != hookspecs.API_VERSION:
        reason = f"made for plugin API {wanted}, this core has {hookspecs.API_VERSION}"
        return replace(info, status="failed", reason=reason)
    try:
        manager.register(module, info.name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        if manager.get_plugin(info.name) is module:  # a second plugin of this name must not take the first one along
            manager.unregister(name=info.name)
        return replace(info, status="failed", reason=str(error))
    hooks = tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or ()))
    return replace(info, hooks=hooks, code_hash=code_hash(module))


def code_hash(module: Any) -> str:
    """Hash over the Python (and other source) files of the module or package, names and contents."""
    origin = getattr(module, "__file__", None)
    digest = hashlib.sha256(_module_name(module).encode())
    if origin:
        root = Path(origin)
        files = sorted(root.parent.rglob("*")) if root.name == "__init__.py" else [root]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(str(file.relative_to(root.parent)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(slots=True)
class _Collection:
    """What the hooks returned so far; turned into the Catalog at the end."""

    devices: dict[str, Device] = field(default_factory=dict)
    routines: dict[str, Routine] = field(default_factory=dict)
    adapters: dict[str, Adapter] = field(default_factory=dict)
    operators: dict[str, Operator] = field(default_factory=dict)
    passes: list[Pass] = field(default_factory=list)
    commands: list[Any] = field(default_factory=list)
    owners: dict[str, PluginInfo] = field(default_factory=dict)


def _collect(manager: pluggy.PluginManager, infos: dict[str, PluginInfo]) -> Catalog:
    from softneuro_core.builtin.reference import ReferenceRoutine

    found = _Collection()
    for name, info in list(infos.items()):
        if info.status == "loaded":
            infos[name] = _collect_plugin(manager, info, found)
    reference = ReferenceRoutine(found.operators)  # the one routine that needs every plugin's operators
    found.routines[reference.name], found.owners[reference.name] = reference, infos[BUILTIN]
    return Catalog(
        tuple(infos.values()),
        found.devices,
        found.routines,
        found.adapters,
        found.operators,
        tuple(found.passes),
        tuple(found.commands),
        found.owners,
        lambda target, calls: manager.hook.softneuro_link(target=target, calls=calls),
    )


def _collect_plugin(manager: pluggy.PluginManager, info: PluginInfo, found: _Collection) -> PluginInfo:
    """Calls every collecting hook of one plugin; nothing it returned is kept if any of them fails."""
    mine = _Collection()
    try:
        _fill(mine, "devices", _call(manager, info.name, "softneuro_devices"), Device, lambda d: d.name)
        _fill(mine, "routines", _call(manager, info.name, "softneuro_routines"), Routine, lambda r: r.name)
        _fill(mine, "adapters", _call(manager, info.name, "softneuro_adapters"), Adapter, lambda a: a.name)
        _fill(mine, "operators", _call(manager, info.name, "softneuro_layers"), Operator, lambda o: o.op)
        mine.passes += _call(manager, info.name, "softneuro_passes")
        mine.commands += _call(manager, info.name, "softneuro_commands")
        for kind in ("devices", "routines", "adapters", "operators"):
            taken = set(getattr(mine, kind)) & set(getattr(found, kind))
            if taken:
                raise PluginError(f"{kind} {sorted(taken)} are already registered by another plugin")
    except Unavailable as error:
        return _dropped(manager, info, "unavailable", str(error))
    except Exception as error:  # a stranger's hook may raise anything
        return _dropped(manager, info, "failed", f"{type(error).__name__}: {error}")
    info = replace(info, devices=tuple(mine.devices))
    mine.owners = dict.fromkeys([*mine.routines, *mine.adapters, *mine.operators], info)
    for kind in ("devices", "routines", "adapters", "operators", "owners"):
        getattr(found, kind).update(getattr(mine, kind))
    found.passes += mine.passes
    found.commands += mine.commands
    return info


def _dropped(manager: pluggy.PluginManager, info: PluginInfo, status: str, reason: str) -> PluginInfo:
    manager.unregister(name=info.name)
    return replace(info, status=status, reason=reason)


def _call(manager: pluggy.PluginManager, plugin: str, hook: str) -> list[Any]:
    """The results of one plugin's implementation of a hook, flattened."""
    others = [module for name, module in manager.list_name_plugin() if name != plugin]
    results = manager.subset_hook_caller(hook, others)()
    return [item for result in results for item in result]


def _fill(found: _Collection, kind: str, items: list[Any], cls: type, key: Callable[[Any], str]) -> None:
    table = getattr(found, kind)
    for item in items:
        if not isinstance(item, cls):
            raise PluginError(f"softneuro_{kind} returned a {type(item).__name__}, wanted {cls.__name__}")
        if key(item) in table:
            raise PluginError(f"{kind} has two entries called {key(item)!r}")
        table[key(item)] = item
